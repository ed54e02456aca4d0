"""`posescale evaluate`: the errors of a model or a control under a protocol."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from posescale.commands.output import AsJson, show
from posescale.errors import ConfigError

if TYPE_CHECKING:
    from posescale.records import Record


def evaluate(
    name: Annotated[str, typer.Argument(help="Model or control, as listed by `posescale models`.")],
    data: Annotated[Path, typer.Option(help="Prepared data (`posescale data prepare`).")],
    frames: Annotated[
        int | None, typer.Option(help="Clip length T; the one the weights were trained with, if unset.")
    ] = None,
    weights: Annotated[Path | None, typer.Option(help="Weights written by `posescale train`.")] = None,
    checkpoint: Annotated[Path | None, typer.Option(help="An official checkpoint of the model.")] = None,
    split: Annotated[str, typer.Option(help="train, val or test.")] = "test",
    protocol: Annotated[str | None, typer.Option(help="Protocol; the data's own if unset.")] = None,
    record: Annotated[Path | None, typer.Option(help="Write the record to this .jsonl file.")] = None,
    study: Annotated[str, typer.Option(help="Name of the study, for the record.")] = "",
    batch: Annotated[int, typer.Option(help="Clips per call; bounds the memory.")] = 32,
    threads: Annotated[int, typer.Option(help="Threads torch may use.")] = 1,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    as_json: AsJson = False,
) -> None:
    """Score a model or a control; prints MPJPE, P-MPJPE, N-MPJPE and MPJVE by action and their mean over actions."""
    from posescale import records
    from posescale.train.evaluate import evaluate as score

    if weights and checkpoint:
        raise ConfigError("give --weights or --checkpoint, not both")
    result = score(
        name, data, frames, weights or checkpoint, protocol, split, batch=batch, threads=threads, device=device,
        study=study,
    )  # fmt: skip
    if record:
        records.write(record, [result])
    if result.status != "ok":
        message = f"posescale: {name}: {result.status}: {result.reason}"
        if not record:
            sys.exit(message)
        typer.echo(message, err=True)  # the record says it; a pipeline goes on
        return
    heading = f"{name}, T = {result.frames}, {result.dataset} {split}, protocol {result.protocol} (mm; mpjve mm/frame)"
    columns = ["action", "frames_scored", "mpjpe", "p_mpjpe", "n_mpjpe", "mpjve"]
    show(_rows(result), as_json, title=heading, columns=columns)


def _rows(result: "Record") -> list[dict[str, Any]]:
    """One row per action, then the mean over actions."""
    scored: dict[str, int] = {}
    for action, count in zip(result.labels["actions"], result.samples["frames_by_sequence"], strict=True):
        scored[action] = scored.get(action, 0) + int(count)
    common = {"model": result.variant, "frames": result.frames, "dataset": result.dataset, "protocol": result.protocol}
    rows = [common | {"action": action, "frames_scored": count} for action, count in sorted(scored.items())]
    rows.append(common | {"action": "mean over actions", "frames_scored": sum(scored.values())})
    for row, group in zip(rows, [*sorted(scored), ""], strict=True):
        row |= {value.name: value.value for value in result.values if value.group == group}
    return rows
