"""`posescale evaluate`: the errors of a model or a control under a protocol."""

import sys
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from posescale.commands.output import AsJson, show
from posescale.errors import ConfigError

if TYPE_CHECKING:
    from posescale.records import Record


class Lifting:
    """Scoring 3D poses: errors in mm by action."""

    module = "posescale.train.evaluate"
    columns = ("action", "frames_scored", "mpjpe", "p_mpjpe", "n_mpjpe", "mpjve")
    units = "mm; mpjve mm/frame"

    @staticmethod
    def rows(result: "Record") -> list[dict[str, Any]]:
        """One row per action, then the mean over actions."""
        scored: dict[str, int] = {}
        for action, count in zip(result.labels["actions"], result.samples["frames_by_sequence"], strict=True):
            scored[action] = scored.get(action, 0) + int(count)
        rows = [{"action": action, "frames_scored": count} for action, count in sorted(scored.items())]
        rows.append({"action": "mean over actions", "frames_scored": sum(scored.values())})
        for row, group in zip(rows, [*sorted(scored), ""], strict=True):
            row |= {value.name: value.value for value in result.values if value.group == group}
        return rows


class Video:
    """Scoring 2D pose in video: shares found, in percent, by joint group and by visibility state."""

    module = "posescale.train.video.evaluate"
    columns = ("of", "pck", "ap", "joints", "error")
    units = "pck and ap in percent; error in sizes"

    @staticmethod
    def rows(result: "Record") -> list[dict[str, Any]]:
        """All joints, then groups of joints, then states."""
        rows: dict[str, dict[str, Any]] = {}
        for value in result.values:
            name, by_state, _ = value.name.partition("_by_state")
            of = f"state {value.group}" if by_state else value.group or "all joints"
            rows.setdefault(of, {"of": of})[name] = value.value
        return sorted(rows.values(), key=lambda row: (row["of"] != "all joints", row["of"].startswith("state ")))


SCORERS = {"lifting": Lifting, "video": Video}


def evaluate(
    name: Annotated[str, typer.Argument(help="Model or control, as listed by `posescale models`.")],
    data: Annotated[Path, typer.Option(help="Prepared data (`posescale data prepare`).")],
    frames: Annotated[
        int | None, typer.Option(help="Clip length T; the one the weights were trained with, if unset.")
    ] = None,
    weights: Annotated[Path | None, typer.Option(help="Weights written by `posescale train`.")] = None,
    checkpoint: Annotated[Path | None, typer.Option(help="An official checkpoint of the model.")] = None,
    split: Annotated[str | None, typer.Option(help="train, val or test; the one papers report, if unset.")] = None,
    protocol: Annotated[str | None, typer.Option(help="Protocol; the data's own if unset.")] = None,
    condition: Annotated[
        str | None,
        typer.Option(help="Video: as_is, own_frame (the key frame T times) or shuffled (other frames of the video)."),
    ] = None,
    record: Annotated[Path | None, typer.Option(help="Write the record to this .jsonl file.")] = None,
    study: Annotated[str, typer.Option(help="Name of the study, for the record.")] = "",
    batch: Annotated[int, typer.Option(help="Clips per call; bounds the memory.")] = 32,
    threads: Annotated[int, typer.Option(help="Threads torch may use.")] = 1,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    as_json: AsJson = False,
) -> None:
    """Score a model or a control by the protocol of the data's task: 3D errors by action, or PCK and AP in video."""
    from posescale import records
    from posescale.data.opening import task_of

    if weights and checkpoint:
        raise ConfigError("give --weights or --checkpoint, not both")
    scorer = SCORERS[task_of(data)]
    given = {"split": split, "condition": condition}
    result = import_module(scorer.module).evaluate(
        name, data, frames, weights or checkpoint, protocol, batch=batch, threads=threads, device=device, study=study,
        **{option: value for option, value in given.items() if value is not None},
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
    common = {"model": result.variant, "frames": result.frames, "dataset": result.dataset, "protocol": result.protocol}
    rows = [common | row for row in scorer.rows(result)]
    show(rows, as_json, title=f"{name}{clip}, {where} ({scorer.units})", columns=list(scorer.columns))
