"""`posescale cost`: parameters, arithmetic by convention, bytes; nothing is timed."""

from pathlib import Path
from typing import Annotated, Any

import typer

from posescale.commands.data import parse_settings
from posescale.commands.output import AsJson, show
from posescale.errors import ConfigError
from posescale.records import Record

Names = Annotated[list[str], typer.Argument(help="Model ids, separated by spaces or commas.")]
Frames = Annotated[str, typer.Option(help="Clip lengths T, separated by commas.")]
Batch = Annotated[int, typer.Option(min=1, help="Clips per call.")]
Settings = Annotated[list[str] | None, typer.Option("--set", help="Constructor argument as key=value; repeatable.")]
Study = Annotated[str, typer.Option(help="Name of the study, written into the records.")]
RecordFile = Annotated[Path | None, typer.Option("--record", help="Write the records to this file, as JSON lines.")]


def cost(
    names: Names,
    frames: Frames = "243",
    batch: Batch = 1,
    settings: Settings = None,
    study: Study = "",
    record: RecordFile = None,
    as_json: AsJson = False,
) -> None:
    """Count a model's parameters, multiply-accumulates and bytes, by our conventions and by the old counters'."""
    from posescale.measure.cost import cost as count
    from posescale.measure.cost import reason_for_difference
    from posescale.records import write

    overrides = parse_settings(settings or [])
    lengths, models = numbers("--frames", frames), words(names)
    counted = [count(name, t, batch, study, **overrides) for name in models for t in lengths]
    if record is not None:
        write(record, counted)
    if as_json:
        show([row for r in counted for row in _rows(r)], as_json)
        return
    for name in models:
        of_model = [r for r in counted if r.variant == name]
        show(_side_by_side(of_model), as_json, f"{name}: one forward pass, batch {batch}")
        failed = [f"T={r.frames}: {r.status}: {r.reason}" for r in of_model if r.status != "ok"]
        reasons = [text for r in of_model[-1:] if (text := reason_for_difference(r))]
        typer.echo("\n".join([*failed, *reasons]) + "\n")


def words(texts: list[str]) -> list[str]:
    """Words separated by spaces or commas, each once."""
    return list(dict.fromkeys(word for text in texts for word in text.split(",") if word))


def numbers(option: str, text: str) -> list[int]:
    """Positive whole numbers separated by commas, each once.

    Raises:
        ConfigError: names the option and the word.
    """
    wrong = [word for word in text.split(",") if not word.strip().isdecimal() or int(word) < 1]
    if wrong:
        raise ConfigError(f"{option} {text}: expected positive whole numbers separated by commas, found {wrong[0]!r}")
    return list(dict.fromkeys(int(word) for word in text.split(",")))


def _rows(record: Record) -> list[dict[str, Any]]:
    key = {"model": record.variant, "frames": record.frames, "batch": record.batch}
    ending = {"status": record.status, "reason": record.reason, "record": record.id}
    values = [(v.name, v.convention, _whole(v.value), v.unit) for v in record.values] or [(None, None, None, None)]
    return [key | dict(zip(("quantity", "convention", "value", "unit"), value)) | ending for value in values]


_SHOWN = {
    "parameters": ("parameters", "unique"),
    "parameters by thop": ("parameters", "thop"),
    "MACs, contractions": ("macs", "contractions"),
    "MACs, contractions+scan": ("macs", "contractions+scan"),
    "MACs by thop": ("macs", "thop"),
    "MACs by fvcore": ("macs", "fvcore"),
    "FLOPs, elementwise too": ("flops", "total"),
    "bytes, compulsory": ("bytes", "compulsory"),
    "bytes kept for backward": ("activation_bytes", "saved for backward"),
}


def _side_by_side(counted: list[Record]) -> list[dict[str, Any]]:
    figures = {r.frames: {(v.name, v.convention): _whole(v.value) for v in r.values} for r in counted}
    return [{"": label} | {f"T={t}": found.get(key) for t, found in figures.items()} for label, key in _SHOWN.items()]


def _whole(value: float | None) -> float | int | None:
    return int(value) if value is not None and value == int(value) else value
