"""Accuracy against the clip length, where the same study was trained at several T."""

from typing import TYPE_CHECKING

import numpy as np

from posescale.report.page import Block, Heading, Plot, listing, slug
from posescale.report.style import PAPER, Look, canvas, end_labels, export, places_axis

if TYPE_CHECKING:
    from posescale.report.studies import Measure, Study


def by_frames(studies: list["Study"], looks: dict[str, Look]) -> list[Block]:
    """One figure for each group of studies that differ in T alone, or that hold models of several T."""
    groups: dict[tuple[object, ...], list[Study]] = {}
    for study in studies:
        groups.setdefault(study.conditions._replace(frames=0), []).append(study)
    blocks: list[Block] = []
    for where, members in groups.items():
        lines = _lines(members)
        if any(len(points) > 1 for points in lines.values()):
            blocks += [
                Heading(f"{where.title}, against T", where.words),
                _figure(slug(where.title), lines, looks, members[0].measure),
            ]
    return blocks


Points = dict[int, tuple[float, float, float]]


def _lines(members: list["Study"]) -> dict[str, Points]:
    """Mean and interval by model and T."""
    lines: dict[str, Points] = {}
    for study in members:
        for row in study.models:
            if np.isfinite(row.level):
                lines.setdefault(row.look, {})[row.frames] = tuple(row.mean)
    return dict(sorted(lines.items()))


def _figure(name: str, lines: dict[str, Points], looks: dict[str, Look], measure: "Measure") -> Plot:
    with canvas(height=3.6) as (figure, (axes,)):
        places_axis(axes, (t for points in lines.values() for t in points))
        for row, points in lines.items():
            look, frames = looks[row], sorted(points)
            means = [points[t][0] for t in frames]
            axes.plot(frames, means, look.dashes, color=look.color, marker=look.marker, mec=PAPER, mew=0.8, zorder=3)
            for t in (t for t in frames if np.isfinite(points[t][1])):
                axes.plot([t, t], points[t][1:], color=look.color, linewidth=3, alpha=0.35, zorder=2)
        axes.set_ylabel(measure.axis)
        axes.autoscale_view(scalex=False)
        end_labels(axes, [(points[max(points)][0], row, looks[row].color) for row, points in lines.items()])
        svg, png = export(figure)
    alt = f"{measure.title} against T for " + listing(lines)
    caption = f"Mean over seeds, bars: 95 % intervals. {measure.better.capitalize()} is better."
    return Plot(f"accuracy-{name}-by-frames", f"{measure.title} against T", caption, alt, svg, png)
