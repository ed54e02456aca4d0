"""`posescale evaluate`: the errors of a model or a control under a protocol."""

import sys
from importlib import import_module
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


class Lifting:
    """Scoring 3D poses: errors by action."""

    task, module, foreign = "lifting", "posescale.train.evaluate", {"condition"}

    @staticmethod
    def layout(result: "Record") -> tuple[str, list[str]]:
        """Units in words, and the table's columns."""
        metrics = list(dict.fromkeys(value.name for value in result.values))
        units = "mm; mpjve mm/frame" + ("; pck and auc %" if "pck" in metrics else "")
        return units, ["action", "frames_scored", *metrics]

    @staticmethod
    def rows(result: "Record") -> list[dict[str, Any]]:
        """One row per action, then the protocol's mean."""
        return rows(result)


class Video:
    """Scoring 2D pose in video: shares found, in percent, by joint group and by visibility state."""

    task, module, foreign = "video", "posescale.train.video.evaluate", {"predictions", "change"}

    @staticmethod
    def layout(result: "Record") -> tuple[str, list[str]]:
        """Units in words, and the table's columns."""
        return "pck and ap in percent; error in sizes", ["of", "pck", "ap", "joints", "error"]

    @staticmethod
    def rows(result: "Record") -> list[dict[str, Any]]:
        """All joints, then groups of joints, then states."""
        common = {"model": result.variant, "frames": result.frames, "dataset": result.dataset}
        common |= {"protocol": result.protocol, "condition": result.options["condition"]}
        found: dict[str, dict[str, Any]] = {}
        for value in result.values:
            name, by_state, _ = value.name.partition("_by_state")
            of = f"state {value.group}" if by_state else value.group or "all joints"
            found.setdefault(of, common | {"of": of})[name] = value.value
        return sorted(found.values(), key=lambda row: (row["of"] != "all joints", row["of"].startswith("state ")))


def _scorer(folder: Path) -> type[Lifting] | type[Video]:
    from posescale.data.opening import task_of

    return {scorer.task: scorer for scorer in (Lifting, Video)}[task_of(folder)]


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
    split: Annotated[str | None, typer.Option(help="train, val or test; the one papers report, if unset.")] = None,
    protocol: Annotated[
        str | None, typer.Option(help="Protocol; if unset the one that the model's paper follows, or the data's own.")
    ] = None,
    change: Change = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="With --dataset: a reader's setting, key=value; repeatable.")
    ] = None,
    accept_licence: Accept = False,
    condition: Annotated[
        str | None,
        typer.Option(
            help="Video: as_is, own_frame (the key frame T times), shuffled (other frames of the video) or other_video."
        ),
    ] = None,
    predictions: Annotated[Path | None, typer.Option(help="Store the predictions here, for `rescore`.")] = None,
    record: Annotated[Path | None, typer.Option(help="Write the record to this .jsonl file.")] = None,
    study: Annotated[str, typer.Option(help="Name of the study, for the record.")] = "",
    batch: Annotated[int, typer.Option(help="Clips per call; bounds the memory.")] = 32,
    threads: Annotated[int, typer.Option(help="Threads torch may use.")] = 1,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    as_json: AsJson = False,
) -> None:
    """Score a model or a control by the data's task: 3D errors by action and their mean, or PCK and AP in video."""
    from posescale import records

    if weights and checkpoint:
        raise ConfigError("give --weights or --checkpoint, not both")
    if (data is None) == (dataset is None):
        raise ConfigError("give --data (a prepared folder) or --dataset (a name), one of them")
    if data is not None and (source or settings or accept_licence):
        raise ConfigError("--source, --set and --accept-licence go with --dataset; --data is prepared already")
    folder = data or _prepared(name, dataset or "", protocol, source, settings or [], accept_licence)
    scorer = _scorer(folder)
    rules = _protocol(name, folder, protocol, change or []) if scorer is Lifting else protocol
    given = {"split": split, "condition": condition, "predictions": predictions, "change": change}
    if refused := [f"--{option}" for option in given if given[option] is not None and option in scorer.foreign]:
        raise ConfigError(f"{', '.join(refused)}: not an option of scoring {scorer.task} data such as {folder}")
    result = import_module(scorer.module).evaluate(
        name, folder, frames, weights or checkpoint, rules, batch=batch, threads=threads, device=device, study=study,
        **{option: value for option, value in given.items() if value is not None and option != "change"},
    )  # fmt: skip
    if record:
        records.write(record, [result])
    if result.status != "ok":
        message = f"posescale: {name}: {result.status}: {result.reason}"
        if not record:
            sys.exit(message)
        typer.echo(message, err=True)  # the record says it; a pipeline goes on
        return
    clip = f", T = {result.frames}" if result.frames else ""
    where = f"{result.dataset} {result.options['split']}, protocol {result.protocol}"
    units, columns = scorer.layout(result)
    show(scorer.rows(result), as_json, title=f"{name}{clip}, {where} ({units})", columns=columns)


def _prepared(
    name: str, dataset: str, protocol: str | None, source: Path | None, settings: list[str], accept_licence: bool
) -> Path:
    """The dataset prepared as the model's protocol needs it."""
    from posescale.cards import component
    from posescale.data import cache, catalog
    from posescale.metrics.protocols import protocol as named

    card, needed = catalog.dataset_card(dataset), {}
    if card.task == "lifting":
        rules = named(protocol or component(name).card.protocols.get(dataset) or card.protocols[0])
        if rules.dataset and rules.dataset != dataset:
            raise ConfigError(f"protocol {rules.id} belongs to {rules.dataset}, not to {dataset}")
        needed = rules.settings
    agree(dataset, accept_licence)
    return cache.prepared(dataset, source, needed | parse_settings(settings))


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
