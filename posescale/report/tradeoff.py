"""Accuracy against cost: MPJPE over MACs and over latency, with intervals both ways and the Pareto front."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from posescale.report import timing
from posescale.report.accuracy import Row, Study
from posescale.report.cost import Conditions as CostConditions
from posescale.report.cost import counts, work
from posescale.report.evidence import Evidence
from posescale.report.page import Block, Grid, Heading, Plot, Section, listing, slug
from posescale.report.style import INK, MUTED, PAPER, Look, canvas, export, log_axis
from posescale.report.sweep import Point
from posescale.report.tables import Cell, Column, Table, number, significant, text


@dataclass(frozen=True)
class Axis:
    """One cost that accuracy is set against: name, unit, what holds for it, and a point per row at the study's T."""

    title: str
    unit: str
    words: str
    points: dict[str, Point] = field(repr=False)

    @property
    def label(self) -> str:
        """Title with unit."""
        return f"{self.title} ({self.unit})"


@dataclass(frozen=True)
class Spot:
    """One model in the plane: the row that was timed or counted, its error and its cost."""

    row: str
    model: Row
    cost: Point

    @property
    def error(self) -> float:
        """Mean MPJPE, mm."""
        return self.model.estimate("mpjpe").value


def section(evidence: Evidence, values: pd.DataFrame, found: list[Study], looks: dict[str, Look]) -> Section:
    """The page's section on what accuracy costs."""
    blocks: list[Block] = []
    for study in found:
        drawn = [
            (axis, spots)
            for axis in axes_of(evidence, values, study.conditions.frames)
            if (spots := match(study, axis))
        ]
        if drawn:
            blocks += _blocks(study, drawn, looks)
    lead = (
        "A model is on the front when no other is both cheaper and more accurate, by the means. "
        "Cost and accuracy are at the same T."
    )
    missing = "No model has both an accuracy and a cost record at one T."
    return Section("tradeoff", "Accuracy against cost", lead if blocks else missing, tuple(blocks))


def axes_of(evidence: Evidence, values: pd.DataFrame, frames: int) -> list[Axis]:
    """MACs of one clip, then every latency condition, at one T."""
    convention, macs = work(counts(evidence, values, "macs").get(CostConditions(1, ""), {}))
    counted = {row: _giga(points[frames]) for row, points in macs.items() if frames in points}
    axes = [Axis("MACs", "G", f"{convention}, batch 1", counted)]
    for where, rows in sorted(timing.sweeps(evidence, values, "latency", "latency").items()):
        points = {row: points[frames] for row, points in rows.items() if frames in points}
        axes.append(Axis("latency", "ms", where.words, points))
    return axes


def _giga(point: Point) -> Point:
    return Point(point.value / 1e9 if point.value is not None else None, point.keys, status=point.status)


def match(study: Study, axis: Axis) -> list[Spot]:
    """Models that have both a finite error and a cost; each way a variant was timed is a spot of its own."""
    spots = []
    for model in study.models:
        estimate = model.estimate("mpjpe")
        if estimate is None or not math.isfinite(estimate.value):
            continue
        variant = model.entries[0].record.variant
        own = [r for r in sorted(axis.points) if r == model.name]
        ways = [r for r in sorted(axis.points) if r == variant or r.startswith(f"{variant} (")]
        same = ways if model.name == variant else own or ways
        spots += [Spot(r, model, axis.points[r]) for r in same if axis.points[r].plotted]
    return spots


def pareto(spots: Iterable[Spot]) -> list[Spot]:
    """The spots that no other beats in both cost and error, from cheap to dear."""
    front: list[Spot] = []
    for spot in sorted(spots, key=lambda s: (s.cost.value, s.error, s.row)):
        if not front or spot.error < front[-1].error:
            front.append(spot)
    return front


def _blocks(study: Study, drawn: list[tuple[Axis, list[Spot]]], looks: dict[str, Look]) -> list[Block]:
    name = slug(
        "tradeoff",
        study.conditions.study or study.conditions.dataset,
        f"T{study.conditions.frames}",
        study.conditions.selection,
    )
    blocks: list[Block] = [Heading(study.conditions.title, study.conditions.words)]
    for number_, (axis, spots) in enumerate(drawn):
        stem = f"{name}-{slug(axis.title)}{f'-{number_}' if number_ > 1 else ''}"
        blocks.append(_figure(stem, study, axis, spots, looks))
        blocks.append(Grid(_table(f"{stem}-table", study, axis, spots)))
    return blocks


def _figure(name: str, study: Study, axis: Axis, spots: list[Spot], looks: dict[str, Look]) -> Plot:
    front = pareto(spots)
    with canvas(height=3.6) as (figure, (axes,)):
        axes.set_xscale("log")
        axes.plot([s.cost.value for s in front], [s.error for s in front], color=MUTED, linewidth=1, linestyle="--",
                  drawstyle="steps-post", zorder=1)  # fmt: skip
        for spot in spots:
            _mark(axes, spot, looks.get(spot.row) or looks[spot.model.name])
        axes.margins(x=0.12, y=0.18)
        axes.set_xlabel(axis.label)
        axes.set_ylabel("MPJPE (mm)")
        axes.autoscale_view()
        log_axis(axes.xaxis)
        _names(axes, spots)
        svg, png = export(figure)
    alt = "On the Pareto front: " + listing(f"{s.row} ({s.error:.1f} mm)" for s in front)
    caption = (
        f"{axis.words}. Bars: 95 % intervals, over seeds for the error. Dashed: Pareto front. Lower left is better."
    )
    return Plot(name, f"MPJPE against {axis.title}", caption, alt, svg, png)


def _mark(axes: Axes, spot: Spot, look: Look) -> None:
    x, y, error = spot.cost.value, spot.error, spot.model.estimate("mpjpe")
    if math.isfinite(error.low):
        axes.plot([x, x], [error.low, error.high], color=look.color, linewidth=1.6, alpha=0.7)
    if spot.cost.low and spot.cost.high and math.isfinite(spot.cost.high) and spot.cost.low > 0:
        axes.plot([spot.cost.low, spot.cost.high], [y, y], color=look.color, linewidth=1.6, alpha=0.7)
    filled = look.dashes == "-"  # a second way of running the same model is drawn open
    face, edge = (look.color, PAPER) if filled else (PAPER, look.color)
    axes.plot(x, y, look.marker, mfc=face, mec=edge, markersize=8, zorder=4)


def _names(axes: Axes, spots: list[Spot]) -> None:
    """Names beside the markers, to the left of those near the right edge; later ones give way upwards."""
    taken: list[tuple[float, float, float]] = []  # left and right edge and height, as shares of the axes
    place = axes.transData + axes.transAxes.inverted()
    for spot in sorted(spots, key=lambda s: (s.error, s.row)):
        x, y = place.transform((spot.cost.value, spot.error))
        side = -1 if x > 0.75 else 1
        left, right = sorted((x, x + side * (0.03 + 0.0125 * len(spot.row))))
        height = y + 0.025
        while any(left < r and right > a and abs(height - h) < 0.05 for a, r, h in taken):
            height += 0.01
        taken.append((left, right, height))
        axes.annotate(
            spot.row, (x, height), xytext=(8 * side, 0), xycoords="axes fraction", textcoords="offset points",
            color=INK, fontsize=8.5, ha="left" if side > 0 else "right", va="bottom", annotation_clip=False,
        )  # fmt: skip


def _table(name: str, study: Study, axis: Axis, spots: list[Spot]) -> Table:
    front = pareto(spots)
    columns = (
        Column("model", "model", numeric=False), Column("mpjpe", "MPJPE", "mm"), Column("cost", axis.title, axis.unit),
        Column("front", "on the front", numeric=False),
    )  # fmt: skip
    digits = significant(float(np.min([s.cost.value for s in spots])))
    rows = [_table_row(s, s in front, digits) for s in sorted(spots, key=lambda s: (s.cost.value, s.row))]
    return Table(name, f"The same as a table: MPJPE against {axis.title}", columns, tuple(rows), axis.words, True,
                 study.conditions.full)  # fmt: skip


def _table_row(spot: Spot, on_front: bool, digits: int) -> dict[str, Cell]:
    keys = spot.model.keys("mpjpe")
    bounds = (spot.cost.low, spot.cost.high) if spot.cost.low is not None and spot.cost.high is not None else None
    return {
        "model": text(spot.row, keys + spot.cost.keys),
        "mpjpe": number(spot.error, 1, keys, spot.model.estimate("mpjpe")[1:]),
        "cost": number(spot.cost.value, digits, spot.cost.keys, bounds),
        "front": text("yes" if on_front else "no", keys + spot.cost.keys),
    }
