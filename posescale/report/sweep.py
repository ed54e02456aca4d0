"""A quantity against clip length or resolution: the points, the fitted power law, the table and the log-log figure.

Cost, latency and memory are all drawn by this module, so that they read alike.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
from matplotlib.axes import Axes

from posescale import stats
from posescale.report.axes import FRAMES, Axis
from posescale.report.page import Plot, listing
from posescale.report.style import PAPER, Look, canvas, end_labels, export, log_axis, places_axis
from posescale.report.tables import Cell, Column, Table, number, significant, text


@dataclass(frozen=True)
class Point:
    """One cell of a sweep: a value with its interval, or the status and reason why there is none."""

    value: float | None
    keys: tuple[str, ...]
    low: float | None = None
    high: float | None = None
    status: str = "ok"
    reason: str = ""

    @property
    def drawable(self) -> bool:
        """Whether it has a value that a log axis can show."""
        return self.value is not None and math.isfinite(self.value) and self.value > 0

    @property
    def plotted(self) -> bool:
        """Whether lines and fits use it: a drawable value with a usable status. Others are drawn hollow."""
        return self.drawable and self.status in {"ok", "unstable"}


@dataclass(frozen=True)
class Sweep:
    """One quantity over T (or another axis) under one set of conditions; `rows` maps row name -> T -> point."""

    name: str
    title: str
    unit: str
    rows: dict[str, dict[int, Point]] = field(repr=False)
    conditions: str = ""
    axis: Axis = FRAMES

    def digits(self, frames: int) -> int:
        """Decimals of a column: three significant digits for its smallest value."""
        found = [points[frames].value for points in self.rows.values() if frames in points and points[frames].plotted]
        return significant(min(found)) if found else 1

    @property
    def frames(self) -> list[int]:
        """Every T of the sweep."""
        return sorted({t for points in self.rows.values() for t in points})

    def plotted(self, row: str) -> dict[int, Point]:
        """The points of a row that a log axis can show, by T."""
        return {t: p for t, p in sorted(self.rows[row].items()) if p.plotted}

    def law(self, row: str) -> stats.PowerLaw | None:
        """The power law through a row's points; None with fewer than two."""
        points = self.plotted(row)
        return stats.power_law(list(points), [p.value for p in points.values()]) if len(points) > 1 else None

    def keys(self, row: str) -> tuple[str, ...]:
        """Keys of the records behind a row's points."""
        return tuple(dict.fromkeys(key for p in self.plotted(row).values() for key in p.keys))


def cell(point: Point | None, digits: int, scale: float = 1.0) -> Cell:
    """A point as a table cell: the number with its interval, or the status with the reason on hover."""
    if point is None:
        return Cell("–", value="", tone="quiet")
    if point.value is None:
        return text(point.status, point.keys, tone="bad", detail=point.reason)
    known = point.low is not None and point.high is not None
    interval = (point.low * scale, point.high * scale) if known else None
    made = number(point.value * scale, digits, point.keys, interval)
    if point.status == "ok":
        return made
    note = f"{made.note} {point.status}".strip()
    return Cell(made.text, made.value, made.records, note, made.low, made.high, "bad", point.reason)


def wide_table(sweep: Sweep, caption: str, exponents: bool = True) -> Table:
    """A row per model, a column per T (or place on the axis), and the fitted exponent."""
    columns = [Column("model", "model", numeric=False)]
    symbol = sweep.axis.symbol
    columns += [Column(f"{symbol}{t}", sweep.axis.heading(t)) for t in sweep.frames]
    if exponents:
        columns.append(Column("exponent", f"exponent of {symbol}"))
    rows = []
    for row, points in sorted(sweep.rows.items()):
        cells = {f"{symbol}{t}": cell(points.get(t), sweep.digits(t)) for t in sweep.frames if t in points}
        keys = dict.fromkeys(k for p in points.values() for k in p.keys)
        cells = {"model": text(row, keys), **cells}
        rows.append(cells | ({"exponent": exponent_cell(sweep, row)} if exponents else {}))
    return Table(
        sweep.name, f"{sweep.title} ({sweep.unit})", tuple(columns), tuple(rows), caption, conditions=sweep.conditions
    )


def exponent_cell(sweep: Sweep, row: str) -> Cell:
    """The exponent fitted to a row, with its interval where three points or more allow one."""
    law = sweep.law(row)
    return number(law.exponent.value, 2, sweep.keys(row), law.exponent[1:]) if law else number(None, 2, sweep.keys(row))


def local_exponents(sweep: Sweep, name: str) -> Table:
    """Exponents between neighbouring T: where a law bends."""
    symbol = sweep.axis.symbol
    steps = list(zip(sweep.frames, sweep.frames[1:], strict=False))
    columns = [
        Column("model", "model", numeric=False),
        *(Column(f"{symbol}{a}_{symbol}{b}", f"{a:,} → {b:,}") for a, b in steps),
    ]
    rows = []
    for row in sorted(sweep.rows):
        points = sweep.plotted(row)
        known = [(a, b) for a, b in steps if a in points and b in points]
        cells = {f"{symbol}{a}_{symbol}{b}": _local(points[a], a, points[b], b) for a, b in known}
        if cells:
            rows.append({"model": text(row, sweep.keys(row)), **cells})
    caption = f"ln(value ratio) / ln({symbol} ratio): 1 is linear in {symbol}, 2 quadratic."
    return Table(name, "Local exponents", tuple(columns), tuple(rows), caption, True, sweep.conditions)


def _local(a: Point, ta: int, b: Point, tb: int) -> Cell:
    return number(math.log(b.value / a.value) / math.log(tb / ta), 2, a.keys + b.keys)


def crossovers(sweep: Sweep, name: str) -> Table:
    """The T at which the fitted laws of two models meet, for pairs with an interval on both exponents."""
    laws = {row: law for row in sorted(sweep.rows) if (law := sweep.law(row)) and law.freedom}
    rows = []
    for i, a in enumerate(laws):
        for b in list(laws)[i + 1 :]:
            meeting = stats.crossover(laws[a], laws[b])
            if meeting and 1 <= meeting.value <= 100 * sweep.frames[-1]:
                rows.append(_crossover_row(sweep, (a, b), meeting))
    columns = (
        Column("model", "model", numeric=False), Column("other", "and", numeric=False),
        Column(sweep.axis.key, f"meet at {sweep.axis.symbol}"),
        Column("range", f"within the measured {sweep.axis.symbol}", numeric=False),
    )  # fmt: skip
    caption = (
        "From the fitted power laws, with Fieller's 95 % interval; no interval where the exponents are not separated."
    )
    return Table(name, "Crossovers", columns, tuple(rows), caption, True, sweep.conditions)


def _crossover_row(sweep: Sweep, pair: tuple[str, str], meeting: stats.Estimate) -> dict[str, Cell]:
    keys = sweep.keys(pair[0]) + sweep.keys(pair[1])
    inside = sweep.frames[0] <= meeting.value <= sweep.frames[-1]
    bounded = meeting.low > 0 and math.isfinite(meeting.high)
    return {
        "model": text(pair[0], sweep.keys(pair[0])),
        "other": text(pair[1], sweep.keys(pair[1])),
        sweep.axis.key: number(meeting.value, 0, keys, meeting[1:] if bounded else None),
        "range": text("yes" if inside else "no, extrapolated", keys, tone="" if inside else "quiet"),
    }


Overlay = Callable[[Axes, str, Look], None]


def figure(
    sweep: Sweep, looks: Mapping[str, Look], axis: str, caption: str, overlay: Overlay | None = None
) -> list[Plot]:
    """The log-log figure, or nothing when there is no point to show.

    Args:
        sweep: what is drawn.
        looks: by row name.
        axis: label of the value axis, with unit.
        caption: below the figure.
        overlay: draws something light below a row's line.
    """
    shown = [row for row in sorted(sweep.rows) if any(p.drawable for p in sweep.rows[row].values())]
    if not shown:
        return []
    labels = {row: _label(sweep, row) for row in shown}
    tall = max(map(len, labels.values())) > 40  # then the exponent stands below the name
    gap = 0.1 if tall else 0.052
    with canvas(height=max(3.9, 4.2 * gap * len(shown))) as (drawing, (axes,)):
        places_axis(axes, sweep.frames, sweep.axis.label)
        axes.set_yscale("log")
        for row in shown:
            _line(axes, sweep.plotted(row), looks[row])
            _hollow(axes, sweep.rows[row], looks[row])
            if overlay:
                overlay(axes, row, looks[row])
        log_axis(axes.yaxis)
        axes.set_ylabel(axis)
        _failures(axes, sweep, looks)
        ends = [
            (_last(sweep, row), words.replace("  ", "\n" if tall else "  "), looks[row].color)
            for row, words in labels.items()
        ]
        end_labels(axes, ends, gap)
        svg, png = export(drawing)
    alt = f"{sweep.title} by {sweep.axis.label}: " + listing(labels.values(), 12)
    return [Plot(f"{sweep.name}-figure", f"{sweep.title} against {sweep.axis.symbol}", caption, alt, svg, png)]


def _line(axes: Axes, points: Mapping[int, Point], look: Look) -> None:
    frames, values = list(points), np.array([p.value for p in points.values()])
    axes.plot(frames, values, look.dashes, color=look.color, marker=look.marker, mec=PAPER, mew=0.8, zorder=3)
    for t, p in points.items():
        if p.low is not None and p.high is not None and 0 < p.low <= p.high < math.inf:
            axes.plot([t, t], [p.low, p.high], color=look.color, linewidth=3, alpha=0.35, zorder=2)


def _hollow(axes: Axes, points: Mapping[int, Point], look: Look) -> None:
    """Values whose status keeps them out of lines and fits."""
    marked = {t: p.value for t, p in sorted(points.items()) if p.drawable and not p.plotted}
    axes.plot(list(marked), list(marked.values()), look.marker, mfc="none", mec=look.color, mew=1.2, zorder=3)


def _last(sweep: Sweep, row: str) -> float:
    """The value its label stands beside: the last one of its line, or the last hollow mark."""
    drawable = [p.value for _, p in sorted(sweep.rows[row].items()) if p.drawable]
    return list(sweep.plotted(row).values())[-1].value if sweep.plotted(row) else drawable[-1]


def _label(sweep: Sweep, row: str) -> str:
    law = sweep.law(row)
    if law is None:
        return row
    low, high = law.exponent[1:]
    interval = f" [{low:.2f}, {high:.2f}]" if math.isfinite(low) else ""
    return f"{row}  {sweep.axis.symbol}^{law.exponent.value:.2f}{interval}"


def _failures(axes: Axes, sweep: Sweep, looks: Mapping[str, Look]) -> None:
    """Crosses on the upper edge: one column per T, one cross per model that has no value there, with its status."""
    for t in sweep.frames:
        last = t == sweep.frames[-1]  # keeps clear of the names at the right edge
        lost = [
            (row, points[t]) for row, points in sorted(sweep.rows.items()) if t in points and not points[t].drawable
        ]
        for height, (row, point) in enumerate(lost):
            place = {"xycoords": ("data", "axes fraction"), "textcoords": "offset points", "annotation_clip": False}
            axes.annotate(
                f"✕ {point.status}", (t, 1.0), xytext=(10 * last, 4 + 10 * height),
                ha="right" if last else "center", fontsize=8, color=looks[row].color, **place,
            )  # fmt: skip
