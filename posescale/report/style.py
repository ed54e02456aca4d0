"""How figures look: one colour per component, one marker per variant, everywhere; files that come out byte-identical.

Colours are Okabe and Ito's, safe for colour-blind readers, darkened where thin lines need it on white.
"""

import io
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import matplotlib
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator

from posescale.report.evidence import Entry

INK, MUTED, GRID, PAPER = "#1d2430", "#68727f", "#e3e7ec", "#fffffe"
SERIES = ("#0072b2", "#d55e00", "#00876c", "#b0568f", "#b57f00", "#2f9fd8", "#7a4f9e", "#8a5a2b")
MARKERS = ("o", "s", "D", "^", "v", "P", "X", "p", "h", "<", ">", "*")
WIDTH = 7.0  # inches; 700 px on the page
_RC = {
    "svg.hashsalt": "posescale",
    "svg.fonttype": "none",
    "text.parse_math": False,  # names are text, whatever signs they hold
    "font.family": ["DejaVu Sans"],
    "font.size": 9.5,
    "axes.titlesize": 9.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 9.5,
    "axes.labelcolor": MUTED,
    "axes.edgecolor": MUTED,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.unicode_minus": True,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "text.color": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.major.size": 3,
    "ytick.major.size": 0,
    "figure.facecolor": PAPER,
    "axes.facecolor": PAPER,
    "savefig.facecolor": PAPER,
    "lines.linewidth": 1.6,
    "lines.markersize": 5.5,
}


@dataclass(frozen=True)
class Look:
    """How a model is drawn in every figure."""

    color: str
    marker: str
    dashes: str = "-"


def looks(entries: Iterable[Entry]) -> dict[str, Look]:
    """A look per table row: colour by component, marker by variant, broken lines for further rows of a variant."""
    components: dict[str, dict[str, dict[str, None]]] = {}
    for entry in sorted(entries, key=lambda e: (e.record.component, e.record.variant, e.row)):
        rows = components.setdefault(entry.record.component, {}).setdefault(entry.record.variant, {})
        rows[entry.row] = None
    found: dict[str, Look] = {}
    for i, variants in enumerate(components.values()):
        for j, rows in enumerate(variants.values()):
            for k, row in enumerate(sorted(rows, key=lambda r: (len(r), r))):
                found[row] = Look(
                    SERIES[i % len(SERIES)], MARKERS[(i + j) % len(MARKERS)], ("-", "--", ":", "-.")[k % 4]
                )
    return found


@contextmanager
def canvas(
    rows: int = 1, columns: int = 1, height: float = 3.6, **options: object
) -> Iterator[tuple[Figure, list[Axes]]]:
    """A figure in the report's style and its axes, row by row. Pyplot's global state is not touched."""
    with sns.axes_style("ticks"), matplotlib.rc_context(_RC):
        figure = Figure(figsize=(WIDTH, height), layout="constrained")
        yield figure, list(figure.subplots(rows, columns, squeeze=False, **options).flat)


def export(figure: Figure) -> tuple[str, bytes]:
    """The figure as SVG text and PNG bytes; the same figure gives the same bytes."""
    svg, png = io.StringIO(), io.BytesIO()
    figure.savefig(svg, format="svg", metadata={"Date": None, "Creator": None})
    figure.savefig(png, format="png", dpi=200, metadata={"Software": None})
    return svg.getvalue(), png.getvalue()


def inline(svg: str, name: str) -> str:
    """SVG for the page: ids made unique by `name`, colours handed to the style sheet (light and dark), fluid width."""
    body = svg[svg.index("<svg") :]
    body = re.sub(r'\bid="([^"]+)"', rf'id="{name}-\1"', body)
    body = re.sub(r'(xlink:href="#|url\(#)', rf"\g<1>{name}-", body)
    body = re.sub(r"<metadata>.*?</metadata>", "", body, flags=re.DOTALL)
    for color, variable in {INK: "ink", MUTED: "muted", GRID: "grid", PAPER: "paper"}.items():
        body = body.replace(color, f"var(--{variable})")
    for number, color in enumerate(SERIES):
        body = body.replace(color, f"var(--series-{number})")
    return re.sub(r'<svg ([^>]*?)height="[^"]+"([^>]*?)width="[^"]+"', r"<svg \1\2", body, count=1)


def variable(color: str) -> str:
    """A series' colour as the style sheet's variable."""
    return f"var(--series-{SERIES.index(color)})"


def places_axis(axes: Axes, places: Iterable[int], label: str = "clip length T (frames)") -> None:
    """A log axis of clip lengths or tokens with ticks where something was measured."""
    ticks = sorted(set(places))
    axes.set_xscale("log")
    axes.set_xticks(ticks, [f"{t:,}" for t in ticks])
    axes.set_xlim(ticks[0] * 0.88, ticks[-1] * 1.14)
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel(label)


def log_axis(axis: "matplotlib.axis.Axis") -> None:
    """A log axis with plain numbers (0.1, 1, 10, 1,000) at 1, and at 2 and 5 where the range is short."""
    low, high = axis.get_view_interval()
    short = low > 0 and high / low < 60
    axis.set_major_locator(LogLocator(subs=(1, 2, 5) if short else (1,)))
    axis.set_minor_locator(NullLocator())
    axis.set_minor_formatter(NullFormatter())
    axis.set_major_formatter(FuncFormatter(lambda value, _position: f"{value:,.10g}"))


def end_labels(axes: Axes, labels: list[tuple[float, str, str]], gap: float = 0.052) -> None:
    """Names at the right edge, each near its line's last value (data units), moved apart where they would touch."""
    if not labels:
        return
    place = axes.transData + axes.transAxes.inverted()
    x = axes.get_xlim()[1]
    wanted = sorted((float(place.transform((x, y))[1]), y, text, color) for y, text, color in labels)
    heights = _spread([w[0] for w in wanted], gap)
    for (_, _, text, color), height in zip(wanted, heights, strict=True):
        axes.annotate(
            text, (1.0, height), xytext=(6, 0), xycoords="axes fraction", textcoords="offset points", color=color,
            va="center", fontsize=8.5, annotation_clip=False,
        )  # fmt: skip


def _spread(heights: list[float], gap: float) -> list[float]:
    """Heights at least `gap` apart, as near to the wanted ones as pushing up, then back down, leaves them."""
    placed: list[float] = []
    for height in heights:
        placed.append(max(height, placed[-1] + gap) if placed else height)
    ceiling = max(1 - gap / 2, gap * (len(placed) - 1))
    for i in range(len(placed) - 1, -1, -1):
        placed[i] = min(placed[i], ceiling)
        ceiling = placed[i] - gap
    return placed
