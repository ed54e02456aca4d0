"""`posescale cost`: parameters, arithmetic by convention, bytes; nothing is timed."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from posescale.commands.data import parse_settings
from posescale.commands.output import AsJson, show
from posescale.errors import ConfigError
from posescale.records import Record

if TYPE_CHECKING:
    from posescale.measure.plan import Entry, Shape

Names = Annotated[
    list[str],
    typer.Argument(
        help="Models, separated by spaces or commas. [LABEL=]MODEL[:KEY=VALUE]... gives one a name and constructor "
        "arguments of its own, as in naive=glsformer_j_tiny:attention=naive."
    ),
]
Frames = Annotated[
    str, typer.Option(help="Clip lengths T, separated by commas; TxHxW for video of that size, as in 5x256x192.")
]
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
    lengths, models = shapes(frames), entries(names)
    counted = [
        count(e.model, s.frames, batch, study, e.label, **{**overrides, **e.overrides, **s.size})
        for e in models
        for s in lengths
    ]
    if record is not None:
        write(record, counted)
    if as_json:
        show([row for r in counted for row in _rows(r)], as_json)
        return
    for number, entry in enumerate(models):
        name, of_model = entry.model, counted[number * len(lengths) : (number + 1) * len(lengths)]
        show(_side_by_side(of_model), as_json, f"{entry.label or name}: one forward pass, batch {batch}")
        failed = [f"{clip(r)}: {r.status}: {r.reason}" for r in of_model if r.status != "ok"]
        reasons = [text for r in of_model[-1:] if (text := reason_for_difference(r))]
        growth = _growth(name, lengths[-1].frames, overrides) if len(failed) < len(of_model) else []
        typer.echo("\n".join([*failed, *reasons, *growth, *_published(of_model)]) + "\n")


def _growth(name: str, frames: int, overrides: dict[str, Any]) -> list[str]:
    """How the contractions grow with T, from the card's closed form; nothing for a card without one."""
    from posescale.cards import component
    from posescale.measure.closed_form import leading_terms, quadratic_overtakes
    from posescale.measure.subject import Subject

    found = component(name)
    if found.card.cost is None or found.card.task != "lifting":
        return []
    arguments = Subject(name, frames, 1, overrides).arguments()
    powers = leading_terms(found, arguments)["contractions"]
    terms = " + ".join(f"{macs:,} T^{power}" if power else f"{macs:,}" for power, macs in sorted(powers.items()))
    overtakes = quadratic_overtakes(found, arguments)
    tail = f"; higher powers overtake the linear part at T = {overtakes:,.0f}" if overtakes else ""
    return [f"MACs of contractions grow as {terms}{tail}."]


def _published(counted: list[Record]) -> list[str]:
    """What papers print of this model, where these counts can say why."""
    from posescale.claims import ledger_rows, load_claims, look

    about = [c for c in load_claims() if c.component == counted[0].variant and c.family == "count" and not c.overrides]
    rows = [row for row in ledger_rows(counted, about, look()) if row["records"]]
    return [
        f"Published {row['quantity']} {row['printed']} ({row['paper']}, {row['table']}): "
        f"{row['verdict']}, {row['reason']}."
        for row in rows
    ]


def entries(texts: list[str]) -> list["Entry"]:
    """Models with their labels and own constructor arguments.

    Raises:
        ConfigError: a word that is none, or two models of one name.
    """
    from posescale.measure.plan import Entry

    found = []
    for word in words(texts):
        head, *pairs = word.split(":")
        label, equals, model = head.rpartition("=")
        if not model or (equals and not label):
            raise ConfigError(
                f"{word}: expected [LABEL=]MODEL[:KEY=VALUE]..., as in naive=glsformer_j_b:attention=naive"
            )
        found.append(Entry(model, label, parse_settings(pairs, model)))
    names = [entry.label or entry.model for entry in found]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ConfigError(f"{', '.join(twice)}: named twice; give one of them a label, as in other={twice[0]}:...")
    return found


def shapes(text: str) -> list["Shape"]:
    """Shapes of clips, `T` or `TxHxW`, separated by commas, each once.

    Raises:
        ConfigError: names the word.
    """
    from posescale.measure.plan import Shape

    found = []
    for word in text.split(","):
        sides = word.strip().split("x")
        if len(sides) not in (1, 3) or not all(side.isdecimal() and int(side) > 0 for side in sides):
            raise ConfigError(f"--frames {text}: expected positive whole numbers, T or TxHxW, found {word!r}")
        found.append(Shape(*map(int, sides)))
    return list(dict.fromkeys(found))


def clip(record: Record) -> str:
    """The clip a record was measured on, in words."""
    size = " x ".join(map(str, record.resolution or ()))
    return f"T={record.frames}" + (f", {size}" if size else "")


def words(texts: list[str]) -> list[str]:
    """Words separated by spaces or commas, each once."""
    return list(dict.fromkeys(word for text in texts for word in text.split(",") if word))


def _rows(record: Record) -> list[dict[str, Any]]:
    size = "x".join(map(str, record.resolution or ())) or None
    key = {"model": record.variant, "label": record.label or None, "frames": record.frames, "size": size}
    key |= {"batch": record.batch}
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
    figures = {clip(r): {(v.name, v.convention): _whole(v.value) for v in r.values} for r in counted}
    return [{"": label} | {t: found.get(key) for t, found in figures.items()} for label, key in _SHOWN.items()]


def _whole(value: float | None) -> float | int | None:
    return int(value) if value is not None and value == int(value) else value
