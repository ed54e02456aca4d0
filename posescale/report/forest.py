"""The forest plot of one study: a strip of seeds, their mean and its interval, one line per model."""

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes

from posescale.report.page import Block, Plot, listing
from posescale.report.style import INK, MUTED, PAPER, Look, canvas, export

if TYPE_CHECKING:
    from posescale.report.studies import Row, Study


def forest(study: "Study", looks: dict[str, Look], name: str) -> list[Block]:
    """The figure, or nothing when no model has a finite value."""
    rows = [row for row in study.models if np.isfinite(row.level)]
    if not rows:
        return []
    measure = study.measure
    with canvas(height=0.95 + 0.42 * len(rows)) as (figure, (axes,)):
        for place, row in enumerate(rows):
            _line(axes, place, row, looks[row.look])
        axes.set_yticks(range(len(rows)), [row.name for row in rows])
        axes.tick_params(axis="y", labelcolor=INK)
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.grid(axis="y", visible=False)
        axes.spines["left"].set_visible(False)
        axes.set_xlabel(f"{measure.axis}, {measure.better} is better")
        _controls(axes, study)
        svg, png = export(figure)
    alt = f"{measure.title} of " + listing(f"{r.name} {r.mean.value:.1f} {measure.unit}" for r in rows)
    caption = (
        "Filled: mean over seeds, bar: its 95 % interval. Open: single seeds. Controls: dotted lines, or arrows where "
        "they lie outside."
    )
    return [Plot(name, f"{measure.title} by model", caption, alt, svg, png)]


def _line(axes: Axes, place: int, row: "Row", look: Look) -> None:
    seeds = list(row.values[(row.measure.name, "")].values())
    estimate = row.mean
    if np.isfinite(estimate.low):
        axes.plot([estimate.low, estimate.high], [place, place], color=look.color, linewidth=2, solid_capstyle="butt")
    axes.plot(seeds, np.full(len(seeds), place + 0.2), "o", mfc="none", mec=look.color, markersize=4, alpha=0.8)
    axes.plot(estimate.value, place, look.marker, color=look.color, mec=PAPER, markersize=8, zorder=4)


def _controls(axes: Axes, study: "Study") -> None:
    """A dotted line where a control lies within reach of the models, an arrow at the edge where it does not."""
    low, high = axes.get_xlim()
    left: list[str] = []
    right: list[str] = []
    for row in study.rows:
        estimate = row.mean
        perfect = 0 if row.measure.better == "lower" else 100
        if not row.control or not estimate or not np.isfinite(estimate.value) or estimate.value == perfect:
            continue
        if low <= estimate.value <= high + 0.5 * (high - low):
            axes.axvline(estimate.value, color=MUTED, linewidth=1, linestyle=":")
            axes.annotate(
                row.name, (estimate.value, 1), xycoords=("data", "axes fraction"), xytext=(0, 3), color=MUTED,
                textcoords="offset points", ha="center", va="bottom", fontsize=8.5,
            )  # fmt: skip
        elif estimate.value > high:
            right.append(f"{row.name} {estimate.value:.1f} →")
        else:
            left.append(f"← {row.name} {estimate.value:.1f}")
    for side, names in (("left", left), ("right", right)):
        axes.set_title("\n".join(names), loc=side, fontsize=8.5, color=MUTED, fontweight="normal")
