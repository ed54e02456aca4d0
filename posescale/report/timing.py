"""Latency and memory against T: one block per machine, precision, mode, batch and thread count."""

import math
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from posescale.report.axes import swept
from posescale.report.cost import Conditions as CostConditions
from posescale.report.cost import conditions as cost_conditions
from posescale.report.cost import counts, predictions
from posescale.report.evidence import Entry, Evidence
from posescale.report.kernels import is_search
from posescale.report.page import Block, Grid, Heading, Section, slug
from posescale.report.schemas import UNITS
from posescale.report.style import Look
from posescale.report.sweep import (
    Overlay,
    Point,
    Sweep,
    crossovers,
    exponent_cell,
    figure,
    local_exponents,
    wide_table,
)  # fmt: skip
from posescale.report.tables import Cell, Column, Table, number, significant, text

MEASURED = {  # kind -> value names and what they are called
    "latency": {"latency": "Latency of one call, p50"},
    "memory": {
        "peak_allocated": "Peak allocated memory",
        "peak_reserved": "Peak reserved memory",
        "peak_rss_delta": "Peak growth of resident memory",
    },
}


class Conditions(NamedTuple):
    """What the numbers of one latency or memory table share; no column mixes two of them."""

    machine: str
    device: str
    dtype: str
    mode: str
    batch: int
    threads: int
    resolution: str
    convention: str

    @property
    def words(self) -> str:
        """All of them."""
        return " · ".join(filter(None, [self.machine, self.settings]))

    @property
    def settings(self) -> str:
        """All but the machine, for the line below its name."""
        batch, threads = (
            f"batch {self.batch}",
            f"{self.threads} thread{'s' * (self.threads != 1)}" if self.threads else "",
        )
        parts = [self.device, self.dtype, self.mode, batch, threads, self.resolution, self.convention]
        return " · ".join(filter(None, parts))

    @property
    def stem(self) -> str:
        """For file names."""
        machine = self.machine.split(",")[0].split()
        return slug(
            " ".join(machine[-2:]),
            self.device,
            self.dtype,
            self.mode,
            f"b{self.batch}",
            self.resolution,
            self.convention,
        )


def conditions(entry: Entry, convention: str = "") -> Conditions:
    """The conditions a record was timed under."""
    r = entry.record
    batch, resolution = cost_conditions(r.batch, r.resolution)
    where = (entry.machine, r.device or "", r.dtype or "", r.mode or "", batch, r.threads or 0, resolution)
    return Conditions(*where, convention)


def sweeps(
    evidence: Evidence, values: pd.DataFrame, kind: str, name: str
) -> dict[Conditions, dict[str, dict[int, Point]]]:
    """Points of one value name by conditions, row and T. A failed record gives a point without a value."""
    chosen = values[(values["kind"] == kind) & (values["name"] == name) & values["group"].isin(["", "p50"])]
    by_key = {v.key: v for v in chosen.itertuples()}
    found: dict[Conditions, dict[str, dict[int, Point]]] = {}
    entries = [e for e in evidence.current(kind) if not is_search(e)]
    for entry in (e for e in entries if e.key in by_key):
        v = by_key[entry.key]
        point = Point(v.value, (v.key,), _bound(v.low), _bound(v.high), v.status, entry.record.reason)
        rows = found.setdefault(conditions(entry, v.convention), {})
        rows.setdefault(entry.row, {})[entry.record.frames or 0] = point
    for entry in (e for e in entries if e.key not in by_key and e.record.status != "ok"):
        _add_failure(found, entry)
    return found


def _add_failure(found: dict[Conditions, dict[str, dict[int, Point]]], entry: Entry) -> None:
    """A failure has no convention: it stands in every table of its conditions, or in one of its own."""
    own = conditions(entry)
    point = Point(None, (entry.key,), status=entry.record.status, reason=entry.record.reason)
    for where in [c for c in found if c._replace(convention="") == own] or [own]:
        found.setdefault(where, {}).setdefault(entry.row, {}).setdefault(entry.record.frames or 0, point)


def _bound(value: float) -> float | None:
    return None if value is None or math.isnan(value) else value


def section(evidence: Evidence, values: pd.DataFrame, looks: dict[str, Look]) -> Section:
    """The page's section on latency and memory."""
    blocks: list[Block] = []
    counted = predictions(counts(evidence, values, "macs"))
    for kind, names in MEASURED.items():
        for name, title in names.items():
            found = sweeps(evidence, values, kind, name)
            measured = {c: rows for c, rows in found.items() if _has_value(rows) or name == _expected(kind, c)}
            per = {(c, axis): rows for c, rows, axis in swept(sweeps(evidence, values, kind, f"{name}_per_frame"))}
            for where, rows, axis in swept(measured):
                sweep = Sweep(slug(name, where.stem), title, UNITS[name], rows, where.words, axis)
                if kind == "memory":
                    blocks += _memory_blocks(sweep, where, looks)
                else:
                    place = CostConditions(where.batch, where.resolution)
                    convention, predicted = counted.get((place, axis.key), ("", {}))
                    blocks += _latency_blocks(sweep, where, (convention, predicted), looks)
                    tables = [
                        per_frame(sweep, per.get((where, axis), {})),
                        spread_table(sweep, values),
                        *_growth_tables(sweep, predicted, convention),
                    ]
                    blocks += [Grid(table) for table in tables if table.rows]
    lead = (
        "Median of one forward call with its 95 % interval, models timed in interleaved rounds; each block is one "
        "machine, precision and mode. A cell without a number says why: hover, or see the list of failures."
    )
    return Section("latency", "Latency and memory", lead if blocks else "No latency or memory records.", tuple(blocks))


def _expected(kind: str, where: Conditions) -> str:
    """The value that stands for a kind of record on its device: where failures are shown when nothing was measured."""
    if kind == "latency":
        return "latency"
    return "peak_allocated" if where.device.startswith("cuda") else "peak_rss_delta"


def _has_value(rows: dict[str, dict[int, Point]]) -> bool:
    return any(p.value is not None for points in rows.values() for p in points.values())


def _memory_blocks(sweep: Sweep, where: Conditions, looks: dict[str, Look]) -> list[Block]:
    caption = "Lines end with the fitted exponent of T and its 95 % interval. Crosses: no value, with the status."
    table = wide_table(sweep, "Of one forward pass, each cell in a process of its own.")
    blocks: list[Block] = [Heading(f"Memory on {where.machine}", where.settings), Grid(table)]
    return blocks + figure(sweep, looks, f"{sweep.title.lower()} (MiB)", caption)


def _latency_blocks(
    sweep: Sweep, where: Conditions, work_done: tuple[str, dict[str, dict[int, Point]]], looks: dict[str, Look]
) -> list[Block]:
    convention, predicted = work_done
    caption = (
        f"Bars: 95 % intervals. Thin lines: MACs ({convention or 'none counted'}) scaled to the measured level, the "
        "shape that work alone predicts. At each line's end: the fitted exponent. Crosses: no value; hollow: not used."
    )
    table = wide_table(sweep, "Brackets: 95 % interval of the median.")
    blocks: list[Block] = [Heading(f"Latency on {where.machine}", where.settings), Grid(table)]
    return blocks + figure(sweep, looks, "latency of one call (ms)", caption, _prediction_overlay(sweep, predicted))


def _growth_tables(sweep: Sweep, predicted: dict[str, dict[int, Point]], convention: str) -> list[Table]:
    return [
        prediction_table(sweep, predicted, convention),
        local_exponents(sweep, f"{sweep.name}-local"),
        crossovers(sweep, f"{sweep.name}-crossovers"),
    ]


def per_frame(sweep: Sweep, rows: dict[str, dict[int, Point]]) -> Table:
    """Microseconds per frame that the model answers for: a seq2frame model answers for one of T."""
    micro = {row: {t: _thousandfold(p) for t, p in points.items()} for row, points in rows.items()}
    scaled = Sweep(f"{sweep.name}-per-frame", "Latency per output frame", "µs", micro, sweep.conditions, sweep.axis)
    caption = "A seq2seq model answers for all T frames of a clip, a seq2frame model for one."
    return replace(wide_table(scaled, caption, exponents=False), collapsed=True)


def _thousandfold(point: Point) -> Point:
    value, low, high = (None if x is None else 1000 * x for x in (point.value, point.low, point.high))
    return replace(point, value=value, low=low, high=high)


_SPREAD = {"samples": ("n", "", 0), "latency_min": ("min", "ms", None), "latency_p5": ("p5", "ms", None),
           "latency": ("p50", "ms", None), "latency_p90": ("p90", "ms", None), "latency_p95": ("p95", "ms", None),
           "latency_p99": ("p99", "ms", None), "latency_mad": ("MAD", "ms", None),
           "latency_host": ("p50 at the host", "ms", None), "throughput": ("throughput", "frames/s", 0)}  # fmt: skip


def spread_table(sweep: Sweep, values: pd.DataFrame) -> Table:
    """How the timings of each cell are distributed; percentiles only where there were samples enough for them."""
    keys = [(row, t, p.keys[0]) for row, points in sorted(sweep.rows.items()) for t, p in sorted(points.items())]
    chosen = values[values["name"].isin(_SPREAD) & values["key"].isin([k for _, _, k in keys])]
    found = {(v.key, v.name): v.value for v in chosen.itertuples()}
    names = [name for name in _SPREAD if any(name == known for _, known in found)]
    columns = [Column("model", "model", numeric=False), Column(sweep.axis.key, sweep.axis.symbol)]
    columns += [Column(name, _SPREAD[name][0], _SPREAD[name][1]) for name in names]
    rows = []
    for row, t, key in keys:
        cells = {n: _spread_cell(found[key, n], n, key, found) for n in names if (key, n) in found}
        if cells:
            rows.append({"model": text(row, [key]), sweep.axis.key: number(t, 0, [key]), **cells})
    caption = "An empty percentile had fewer samples than its statement needs. MAD: median absolute deviation."
    return Table(
        f"{sweep.name}-spread", "Distribution of timings", tuple(columns), tuple(rows), caption, True, sweep.conditions
    )


def _spread_cell(value: float, name: str, key: str, found: dict[tuple[str, str], float]) -> Cell:
    """Milliseconds of one cell share their decimals, those of its median."""
    digits = _SPREAD[name][2]
    return number(value, significant(found.get((key, "latency"), value)) if digits is None else digits, [key])


def predict(sweep: Sweep, row: str, macs: dict[str, dict[int, Point]]) -> dict[int, float]:
    """Latency that MACs alone predict: proportional to them, through the geometric mean of the measured points."""
    points, counted = sweep.plotted(row), _counted(row, macs)
    common = [t for t in points if t in counted and counted[t].plotted]
    if len(common) < 2:
        return {}
    level = np.mean([math.log(points[t].value / counted[t].value) for t in common])
    return {t: math.exp(level) * counted[t].value for t in common}


def _counted(row: str, macs: dict[str, dict[int, Point]]) -> dict[int, Point]:
    """Counts of the same row, or of its variant: an attention back end changes times, not MACs."""
    return macs.get(row) or macs.get(row.split(" (")[0], {})


def _prediction_overlay(sweep: Sweep, macs: dict[str, dict[int, Point]]) -> Overlay:
    def overlay(axes: Axes, row: str, look: Look) -> None:
        line = predict(sweep, row, macs)
        axes.plot(list(line), list(line.values()), "-", color=look.color, linewidth=0.8, alpha=0.55, zorder=1)

    return overlay


def prediction_table(sweep: Sweep, macs: dict[str, dict[int, Point]], convention: str) -> Table:
    """How far measured growth is from the growth of MACs."""
    rows = [made for row in sorted(sweep.rows) if (made := _prediction_row(sweep, row, macs))]
    columns = (
        Column("model", "model", numeric=False), Column("exponent", "exponent of latency"),
        Column("macs_exponent", "exponent of MACs"), Column("deviation", "largest deviation", "%"),
    )  # fmt: skip
    caption = f"MACs: {convention}. Deviation: measured time over predicted, minus one, where it is largest."
    return Table(
        f"{sweep.name}-prediction",
        "Latency against what MACs predict",
        columns,
        tuple(rows),
        caption,
        conditions=sweep.conditions,
    )


def _prediction_row(sweep: Sweep, row: str, macs: dict[str, dict[int, Point]]) -> dict[str, Cell] | None:
    line = predict(sweep, row, macs)
    if not line:
        return None
    counted = Sweep("", "", "", {row: {t: p for t, p in _counted(row, macs).items() if t in line}})
    keys = sweep.keys(row) + counted.keys(row)
    deviations = [sweep.plotted(row)[t].value / line[t] - 1 for t in line]
    return {
        "model": text(row, keys),
        "exponent": exponent_cell(sweep, row),
        "macs_exponent": exponent_cell(counted, row),
        "deviation": number(100 * max(deviations, key=abs), 0, keys),
    }
