"""Accuracy against cost: a study's measure over MACs and latency, with intervals both ways and the Pareto front."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from posescale.report import timing
from posescale.report.cost import Conditions as CostConditions
from posescale.report.cost import counts, work
from posescale.report.evidence import Evidence
from posescale.report.page import Block, Grid, Heading, Plot, Section, listing, slug
from posescale.report.studies import Row, Study
from posescale.report.style import INK, MUTED, PAPER, Look, canvas, export, log_axis
from posescale.report.sweep import Point
from posescale.report.tables import Cell, Column, Table, number, significant, text


@dataclass(frozen=True)
class Axis:
    """One cost that accuracy is set against: name, unit, what holds for it, and its points by row and T."""

    title: str
    unit: str
    words: str
    points: dict[str, dict[int, Point]] = field(repr=False)

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
        """Mean of the study's measure."""
        return self.model.mean.value


def section(evidence: Evidence, values: pd.DataFrame, found: list[Study], looks: dict[str, Look]) -> Section:
    """The page's section on what accuracy costs."""
    blocks: list[Block] = []
    for study in found:
        drawn = [
            (axis, spots)
            for axis in axes_of(evidence, values, study.conditions.resolution)
            if (spots := match(study, axis))
        ]
        if drawn:
            blocks += _blocks(study, drawn, looks)
    lead = (
        "A model is on the front when no other is both cheaper and more accurate, by the means. "
        "Cost and accuracy are at the same T and, in video, the same resolution."
    )
    missing = "No model has both an accuracy and a cost record at one T."
    return Section("tradeoff", "Accuracy against cost", lead if blocks else missing, tuple(blocks))


def axes_of(evidence: Evidence, values: pd.DataFrame, resolution: str = "") -> list[Axis]:
    """MACs of one clip, then every latency condition; in video those at one resolution."""
    convention, macs = work(counts(evidence, values, "macs").get(CostConditions(1, resolution), {}))
    counted = {row: {t: _giga(p) for t, p in points.items()} for row, points in macs.items()}
    axes = [Axis("MACs", "G", f"{convention}, batch 1", counted)]
    for where, rows in sorted(timing.sweeps(evidence, values, "latency", "latency").items()):
        if where.resolution == resolution:
            axes.append(Axis("latency", "ms", where.words, rows))
    return axes


def _giga(point: Point) -> Point:
    return Point(point.value / 1e9 if point.value is not None else None, point.keys, status=point.status)


def match(study: Study, axis: Axis) -> list[Spot]:
    """Models that have both a finite error and a cost; each way a variant was timed is a spot of its own."""
    spots = []
    for model in study.models:
        if not math.isfinite(model.level):
            continue
        record = model.entries[0].record
        variant, points = record.variant, {r: p[model.frames] for r, p in axis.points.items() if model.frames in p}
        own = [r for r in sorted(points) if r == model.look]
        ways = [r for r in sorted(points) if r == variant or r.startswith(f"{variant} (")]
        same = own if record.label else ways if model.look == variant else own or ways
        spots += [Spot(r, model, points[r]) for r in same if points[r].plotted]
    return spots


def pareto(spots: Iterable[Spot]) -> list[Spot]:
    """The spots that no other beats in both cost and error, from cheap to dear."""
    front: list[Spot] = []
    for spot in sorted(spots, key=lambda s: (s.cost.value, s.model.level, s.row)):
        if not front or spot.model.level < front[-1].model.level:
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
            _mark(axes, spot, looks.get(spot.row) or looks[spot.model.look])
        axes.margins(x=0.12, y=0.18)
        axes.set_xlabel(axis.label)
        axes.set_ylabel(study.measure.axis)
        axes.autoscale_view()
        log_axis(axes.xaxis)
        _names(axes, spots)
        svg, png = export(figure)
    alt = "On the Pareto front: " + listing(f"{s.row} ({s.error:.1f} {study.measure.unit})" for s in front)
    corner = "Lower" if study.measure.better == "lower" else "Upper"
    caption = (
        f"{axis.words}. Bars: 95 % intervals, over seeds for {study.measure.title}. Dashed: Pareto front. "
        f"{corner} left is better."
    )
    return Plot(name, f"{study.measure.title} against {axis.title}", caption, alt, svg, png)


def _mark(axes: Axes, spot: Spot, look: Look) -> None:
    x, y, error = spot.cost.value, spot.error, spot.model.mean
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
    front, measure = pareto(spots), study.measure
    columns = (
        Column("model", "model", numeric=False), Column(measure.name, measure.title, measure.unit),
        Column("cost", axis.title, axis.unit), Column("front", "on the front", numeric=False),
    )  # fmt: skip
    digits = significant(float(np.min([s.cost.value for s in spots])))
    rows = [_table_row(s, s in front, digits) for s in sorted(spots, key=lambda s: (s.cost.value, s.row))]
    title = f"The same as a table: {measure.title} against {axis.title}"
    return Table(name, title, columns, tuple(rows), axis.words, True, study.conditions.full)


def _table_row(spot: Spot, on_front: bool, digits: int) -> dict[str, Cell]:
    measure, keys = spot.model.measure, spot.model.scored
    bounds = (spot.cost.low, spot.cost.high) if spot.cost.low is not None and spot.cost.high is not None else None
    return {
        "model": text(spot.row, keys + spot.cost.keys),
        measure.name: number(spot.error, measure.digits, keys, spot.model.mean[1:]),
        "cost": number(spot.cost.value, digits, spot.cost.keys, bounds),
        "front": text("yes" if on_front else "no", keys + spot.cost.keys),
    }
