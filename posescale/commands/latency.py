"""`posescale latency`: models timed side by side, and their peak memory."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Annotated, Any, Literal

import typer

from posescale.commands.cost import Batch, Frames, Names, RecordFile, Settings, Study, clip, entries, shapes
from posescale.commands.data import parse_settings
from posescale.commands.output import AsJson, show
from posescale.records import Record


def latency(
    names: Names,
    frames: Frames = "27,81,243",
    batch: Batch = 1,
    threads: Annotated[int, typer.Option(min=1, help="Threads of PyTorch on the CPU.")] = 1,
    rounds: Annotated[int, typer.Option(min=1, help="Interleaved rounds, each a fresh process.")] = 3,
    seconds: Annotated[float, typer.Option(min=0.001, help="Busy seconds per cell and round.")] = 1.0,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    dtype: Annotated[str, typer.Option(help="float32, tf32, float64, bfloat16 or float16.")] = "float32",
    mode: Annotated[Literal["eager", "compile", "graph"], typer.Option(help="How the model is run.")] = "eager",
    attention: Annotated[str | None, typer.Option(help="fused or naive, where a model has the choice.")] = None,
    settings: Settings = None,
    memory: Annotated[bool, typer.Option(help="Also measure peak memory, one process per cell.")] = True,
    memory_limit: Annotated[
        float | None, typer.Option(min=0.01, help="GiB a process may take; all free if unset.")
    ] = None,
    timeout: Annotated[float, typer.Option(min=1, help="Seconds one step of one cell may take.")] = 120.0,
    study: Study = "",
    record: RecordFile = None,
    as_json: AsJson = False,
) -> None:
    """Time models side by side over clip lengths; what fails becomes a record with its reason, not an error."""
    from posescale.measure.latency import latency as time_models
    from posescale.measure.memory import memory as weigh_models
    from posescale.records import write

    shared: dict[str, Any] = {
        "names": entries(names), "frames": shapes(frames), "batch": batch, "threads": threads,
        "device": device, "dtype": dtype, "attention": attention, "overrides": parse_settings(settings or []),
        "memory_limit": memory_limit, "timeout": timeout, "study": study,
    }  # fmt: skip
    with _progress() as show_progress:
        timed = time_models(**shared, rounds=rounds, seconds=seconds, mode=mode, progress=show_progress)
        weighed = weigh_models(**shared, progress=show_progress) if memory else []
    if record is not None:
        write(record, [*timed, *weighed])
    title = f"Median of one call, batch {batch}, {device}, {dtype}, {mode}; ratio to {_name(timed[0])} at the same T"
    rows = _rows(timed, weighed)
    show(rows if as_json else [_brief(row) for row in rows], as_json, title)
    if not as_json:
        failed = [r for r in (*timed, *weighed) if r.status != "ok"]
        typer.echo("\n".join(f"{_name(r)} {clip(r)}, {r.kind}: {r.status}: {r.reason}" for r in failed))


def _progress() -> AbstractContextManager[Callable[[float, str], None]]:
    from rich.console import Console
    from rich.progress import Progress

    @contextmanager
    def shown() -> Iterator[Callable[[float, str], None]]:
        with Progress(console=Console(stderr=True), transient=True) as bar:
            task = bar.add_task("starting", total=1.0)
            yield lambda share, what: bar.update(task, completed=share, description=what)

    return shown()


def _rows(timed: list[Record], weighed: list[Record]) -> list[dict[str, Any]]:
    peaks = {(_name(r), clip(r)): r for r in weighed}
    firsts = {}
    for record in timed:
        firsts.setdefault(clip(record), record)
    return [_row(r, firsts[clip(r)], peaks.get((_name(r), clip(r)))) for r in timed]


def _name(record: Record) -> str:
    return record.label or record.variant


def _row(record: Record, first: Record, peak: Record | None) -> dict[str, Any]:
    from posescale.stats import bootstrap_ratio, compare

    values = {v.name: v for v in record.values}
    p50, per_frame = values.get("latency"), values.get("latency_per_frame")
    low, high = p50.interval if p50 else (None, None)
    size = "x".join(map(str, record.resolution or ())) or None
    row: dict[str, Any] = {
        "model": record.variant, "label": record.label or None, "frames": record.frames, "size": size,
        "p50_ms": p50 and p50.value, "low_ms": low, "high_ms": high,
        "ms_per_frame": per_frame and per_frame.value, "ratio": None, "ratio_low": None, "ratio_high": None,
        "verdict": None,
    }  # fmt: skip
    if p50 and first.samples and record is not first:
        rounds = _by_round(record), _by_round(first)
        row |= zip(("ratio", "ratio_low", "ratio_high"), bootstrap_ratio(*rounds))
        row["verdict"] = compare(*rounds)
    return row | _peak(peak) | {"status": record.status, "reason": record.reason, "record": record.id}


def _brief(row: dict[str, Any]) -> dict[str, Any]:
    ratio = _with_interval(row["ratio"], row["ratio_low"], row["ratio_high"])
    return {
        "model": row["label"] or row["model"],
        "T": row["frames"],
        **({"size": row["size"]} if row["size"] else {}),
        "ms": _with_interval(row["p50_ms"], row["low_ms"], row["high_ms"]),
        "ms/frame": row["ms_per_frame"],
        "ratio": f"{ratio} {(row['verdict'] or '').lower()}".strip(),
        "peak MiB": row.get("peak_mib"),
        "status": row["status"],
    }


def _with_interval(value: float | None, low: float | None, high: float | None) -> str:
    return "" if value is None else f"{value:.4g} [{low:.3g}, {high:.3g}]"


def _by_round(record: Record) -> list[list[float]]:
    rounds: dict[float, list[float]] = {}
    for number, ms in zip(record.samples["round"], record.samples["latency"]):
        rounds.setdefault(number, []).append(ms)
    return list(rounds.values())


def _peak(record: Record | None) -> dict[str, Any]:
    if record is None:
        return {}
    peak = next((v.value for v in record.values if v.name.startswith("peak")), None)
    return {"peak_mib": peak, "memory_status": record.status}
