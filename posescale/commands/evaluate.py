"""`posescale evaluate`: the errors of a model or a control under a protocol."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from posescale.commands.data import Accept, agree, parse_settings
from posescale.commands.output import AsJson, show
from posescale.errors import ConfigError

if TYPE_CHECKING:
    from posescale.metrics.protocols import Protocol
    from posescale.records import Record

Change = Annotated[
    list[str] | None, typer.Option("--change", help="Something else than the protocol says, key=value; repeatable.")
]


def evaluate(
    name: Annotated[str, typer.Argument(help="Model or control, as listed by `posescale models`.")],
    data: Annotated[Path | None, typer.Option(help="Prepared data (`posescale data prepare`).")] = None,
    dataset: Annotated[
        str | None, typer.Option(help="A dataset by name instead: prepared into a cache folder if it is not there.")
    ] = None,
    source: Annotated[
        Path | None, typer.Option(help="With --dataset: the original files (else POSESCALE_DATA).")
    ] = None,
    frames: Annotated[
        int | None, typer.Option(help="Clip length T; the one the weights were trained with, if unset.")
    ] = None,
    weights: Annotated[Path | None, typer.Option(help="Weights written by `posescale train`.")] = None,
    checkpoint: Annotated[Path | None, typer.Option(help="An official checkpoint of the model.")] = None,
    split: Annotated[str, typer.Option(help="train, val or test.")] = "test",
    protocol: Annotated[
        str | None, typer.Option(help="Protocol; if unset the one that the model's paper follows, or the data's own.")
    ] = None,
    change: Change = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="With --dataset: a reader's setting, key=value; repeatable.")
    ] = None,
    accept_licence: Accept = False,
    predictions: Annotated[Path | None, typer.Option(help="Store the predictions here, for `rescore`.")] = None,
    record: Annotated[Path | None, typer.Option(help="Write the record to this .jsonl file.")] = None,
    study: Annotated[str, typer.Option(help="Name of the study, for the record.")] = "",
    batch: Annotated[int, typer.Option(help="Clips per call; bounds the memory.")] = 32,
    threads: Annotated[int, typer.Option(help="Threads torch may use.")] = 1,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    as_json: AsJson = False,
) -> None:
    """Score a model or a control; prints the protocol's metrics by action and their mean."""
    from posescale import records
    from posescale.train.evaluate import evaluate as score

    if weights and checkpoint:
        raise ConfigError("give --weights or --checkpoint, not both")
    if (data is None) == (dataset is None):
        raise ConfigError("give --data (a prepared folder) or --dataset (a name), one of them")
    if data is not None and (source or settings or accept_licence):
        raise ConfigError("--source, --set and --accept-licence go with --dataset; --data is prepared already")
    folder = data or _prepared(name, dataset or "", protocol, source, settings or [], accept_licence)
    result = score(
        name, folder, frames, weights or checkpoint, _protocol(name, folder, protocol, change or []), split,
        batch=batch, threads=threads, device=device, study=study, predictions=predictions,
    )  # fmt: skip
    if record:
        records.write(record, [result])
    if result.status != "ok":
        message = f"posescale: {name}: {result.status}: {result.reason}"
        if not record:
            sys.exit(message)
        typer.echo(message, err=True)  # the record says it; a pipeline goes on
        return
    metrics = list(dict.fromkeys(value.name for value in result.values))
    units = "mm; mpjve mm/frame" + ("; pck and auc %" if "pck" in metrics else "")
    heading = f"{name}, T = {result.frames}, {result.dataset} {split}, protocol {result.protocol} ({units})"
    show(rows(result), as_json, title=heading, columns=["action", "frames_scored", *metrics])


def _prepared(
    name: str, dataset: str, protocol: str | None, source: Path | None, settings: list[str], accept_licence: bool
) -> Path:
    """The dataset prepared as the model's protocol needs it."""
    from posescale.cards import component
    from posescale.data import cache, catalog
    from posescale.metrics.protocols import protocol as named

    card = catalog.dataset_card(dataset)
    rules = named(protocol or component(name).card.protocols.get(dataset) or card.protocols[0])
    if rules.dataset and rules.dataset != dataset:
        raise ConfigError(f"protocol {rules.id} belongs to {rules.dataset}, not to {dataset}")
    agree(dataset, accept_licence)
    return cache.prepared(dataset, source, rules.settings | parse_settings(settings))


def _protocol(name: str, folder: Path, protocol: str | None, changes: list[str]) -> "Protocol | str | None":
    if not changes:
        return protocol
    from posescale.cards import component
    from posescale.data.prepared import PreparedData
    from posescale.metrics.protocols import protocol as named
    from posescale.train.evaluate import default_protocol

    rules = named(protocol) if protocol else default_protocol(component(name).card, PreparedData(folder))
    return rules.changed(**parse_changes(changes))


def parse_changes(pairs: list[str]) -> dict[str, Any]:
    """`key=value` words as fields of a protocol; `excluded=none` and `label_width=own` are their empty values."""
    empty = {"excluded": ("none", ()), "label_width": ("own", None)}
    changes = parse_settings(pairs, "--change")
    return {key: empty[key][1] if key in empty and value == empty[key][0] else value for key, value in changes.items()}


def rows(result: "Record") -> list[dict[str, Any]]:
    """One row per action, then the protocol's mean."""
    scored: dict[str, int] = {}
    for action, count in zip(result.labels["actions"], result.samples["frames_by_sequence"], strict=True):
        scored[action] = scored.get(action, 0) + int(count)
    common = {"model": result.variant, "frames": result.frames, "dataset": result.dataset, "protocol": result.protocol}
    found = [common | {"action": action, "frames_scored": count} for action, count in sorted(scored.items())]
    found.append(common | {"action": _mean_name(result.protocol or ""), "frames_scored": sum(scored.values())})
    for row, group in zip(found, [*sorted(scored), ""], strict=True):
        row |= {value.name: value.value for value in result.values if value.group == group}
    return found


def _mean_name(name: str) -> str:
    """What the last row is called; a changed protocol says `aggregation=` in its id where that was changed."""
    from posescale.metrics.protocols import PROTOCOLS

    base, _, changes = name.partition("[")
    own = PROTOCOLS[base].aggregation if base in PROTOCOLS else "action_mean"
    changed = own if "aggregation=" not in changes else "frame_mean" if own == "action_mean" else "action_mean"
    return "mean over frames" if changed == "frame_mean" else "mean over actions"
