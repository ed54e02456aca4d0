"""Cost: parameters and multiply-accumulates by convention, and how they grow with T. Counts belong to no machine."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import pandas as pd
from matplotlib.axes import Axes

from posescale.report.axes import Axis, swept
from posescale.report.evidence import Evidence
from posescale.report.page import Block, Grid, Heading, Note, Section, slug
from posescale.report.style import Look
from posescale.report.sweep import Overlay, Point, Sweep, cell, figure, local_exponents, wide_table
from posescale.report.tables import Cell, Column, Table, number, text

PREFERRED = ("contractions+scan", "contractions")  # the first one a record has stands for its work
EXPLAINED = {
    "unique": "every parameter tensor once",
    "contractions": "every matrix product and convolution, attention's T² included",
    "contractions+scan": "contractions and the selective scan",
    "thop": "what the papers' counter sees: modules only, neither attention's T² nor the scan",
    "fvcore": "what fvcore sees: traced operators it has a formula for",
}


class Conditions(NamedTuple):
    """What the counts of one table share."""

    batch: int
    resolution: str

    @property
    def words(self) -> str:
        """For the line below the heading."""
        return " · ".join(filter(None, [f"batch {self.batch}", self.resolution]))


def conditions(batch: object, resolution: object) -> Conditions:
    """Conditions from a record's fields."""
    return Conditions(1 if batch is None or pd.isna(batch) else int(batch), size_words(resolution))


def size_words(resolution: object) -> str:
    """Height and width in words; empty where there is none."""
    return " × ".join(map(str, resolution)) if isinstance(resolution, (tuple, list)) else ""


def counts(
    evidence: Evidence, values: pd.DataFrame, name: str
) -> dict[Conditions, dict[str, dict[str, dict[int, Point]]]]:
    """Counted values by conditions, convention, row and T; a record without the value gives a point with its status."""
    found: dict[Conditions, dict[str, dict[str, dict[int, Point]]]] = {}
    chosen = values[(values["kind"] == "cost") & (values["name"] == name) & (values["group"] == "")]
    for v in chosen.sort_values("started", kind="stable").itertuples():
        points = found.setdefault(conditions(v.batch, v.resolution), {}).setdefault(v.convention or "unnamed", {})
        points.setdefault(v.row, {})[int(v.frames or 0)] = Point(v.value, (v.key,), status=v.status)
    for entry in (e for e in evidence.current("cost") if e.record.status != "ok" and e.key not in set(chosen["key"])):
        for points in found.setdefault(conditions(entry.record.batch, entry.record.resolution), {"": {}}).values():
            lost = Point(None, (entry.key,), status=entry.record.status, reason=entry.record.reason)
            points.setdefault(entry.row, {}).setdefault(entry.record.frames or 0, lost)
    return found


def work(by_convention: Mapping[str, dict[str, dict[int, Point]]]) -> tuple[str, dict[str, dict[int, Point]]]:
    """The convention that sees most of the work, and its points: never two conventions in one comparison."""
    named = [c for c in by_convention if c]
    convention = next((c for c in PREFERRED if c in named), min(named, default=""))
    return convention, by_convention.get(convention, {}) if convention else {}


Counts = dict[str, dict[str, dict[int, Point]]]  # convention -> row -> T (or tokens) -> point


def _swept(found: Mapping[Conditions, Counts]) -> dict[tuple[Conditions, Axis], Counts]:
    """Counts by what they are swept over."""
    made: dict[tuple[Conditions, Axis], Counts] = {}
    for convention in dict.fromkeys(c for counted in found.values() for c in counted):
        own = {where: counted[convention] for where, counted in found.items() if convention in counted}
        for where, rows, axis in swept(own):
            made.setdefault((where, axis), {})[convention] = rows
    return made


def predictions(
    found: Mapping[Conditions, Counts],
) -> dict[tuple[Conditions, str], tuple[str, dict[str, dict[int, Point]]]]:
    """What stands for the work at each place (conditions and what is swept): its convention and points."""
    made: dict[tuple[Conditions, str], Counts] = {}
    for (where, axis), counted in _swept(found).items():
        made.setdefault((where, axis.key), {}).update(counted)
    return {place: work(counted) for place, counted in made.items()}


def section(evidence: Evidence, values: pd.DataFrame, looks: dict[str, Look]) -> Section:
    """The page's section on cost."""
    macs, parameters = (_swept(counts(evidence, values, name)) for name in ("macs", "parameters"))
    blocks: list[Block] = []
    for where, axis in sorted(set(macs) | set(parameters), key=lambda place: (place[1].key, place)):
        blocks += _blocks(where, axis, macs.get((where, axis), {}), parameters.get((where, axis), {}), looks)
    lead = (
        "Parameters and multiply-accumulates (MACs) of one forward pass. A convention is a column of its own, because "
        "counters disagree on what they see; 1 MAC is 2 FLOPs. Counts are exact, so an exponent's interval says how "
        "far the growth is from one power law, not how noisy it is."
    )
    return Section("cost", "Cost", lead if blocks else "No cost records.", tuple(blocks))


def _blocks(
    where: Conditions,
    axis: Axis,
    macs: dict[str, dict[str, dict[int, Point]]],
    parameters: dict[str, dict[str, dict[int, Point]]],
    looks: dict[str, Look],
) -> list[Block]:
    name = slug("cost", f"b{where.batch}", where.resolution)
    blocks: list[Block] = [Heading(f"Counted: {where.words}"), Grid(count_table(where, axis, macs, parameters, name))]
    known = [f"{c}: {EXPLAINED[c]}" for c in _ordered({*macs, *parameters}) if c in EXPLAINED]
    if known:
        blocks.append(Note("Conventions. " + "; ".join(known) + "."))
    convention, points = work(macs)
    if not points:
        return blocks
    sweep = Sweep(
        f"{name}-macs", f"MACs, {convention}", "G", {r: _scaled(p, 1e-9) for r, p in points.items()}, where.words, axis
    )
    legacy = {row: _scaled(points, 1e-9) for row, points in macs.get("thop", {}).items()}
    caption = f"At each line's end: the fitted exponent of {axis.symbol} and its 95 % interval."
    caption += " Dotted: the same models as thop counts them." if legacy and convention != "thop" else ""
    overlay = _legacy_overlay(legacy)
    blocks += figure(sweep, looks, "MACs of one forward pass (G)", caption, overlay)
    wide = wide_table(sweep, f"Convention: {convention}.")
    return [*blocks, Grid(wide), Grid(local_exponents(sweep, f"{name}-local"))]


def _legacy_overlay(legacy: dict[str, dict[int, Point]]) -> Overlay:
    def overlay(axes: Axes, row: str, look: Look) -> None:
        points = {t: p.value for t, p in sorted(legacy.get(row, {}).items()) if p.plotted}
        axes.plot(list(points), list(points.values()), ":", color=look.color, linewidth=1, alpha=0.8)

    return overlay


def _scaled(points: dict[int, Point], factor: float) -> dict[int, Point]:
    return {t: Point(p.value * factor if p.value is not None else None, p.keys, status=p.status, reason=p.reason)
            for t, p in points.items()}  # fmt: skip


def count_table(
    where: Conditions,
    axis: Axis,
    macs: dict[str, dict[str, dict[int, Point]]],
    parameters: dict[str, dict[str, dict[int, Point]]],
    name: str,
) -> Table:
    """A row per model and T; parameters and MACs by convention side by side."""
    largest = max((p.value for c in macs.values() for r in c.values() for p in r.values() if p.plotted), default=0.0)
    unit, factor, digits = ("G", 1e-9, 3) if largest >= 1e9 else ("M", 1e-6, 3)
    columns = [Column("model", "model", numeric=False), Column(axis.key, axis.symbol)]
    columns += [Column(f"parameters_{slug(c)}", _head("parameters", c, parameters), "M") for c in _ordered(parameters)]
    columns += [Column(f"macs_{slug(c)}", f"MACs, {c}", unit) for c in _ordered(macs)]
    if len(columns) == 2:
        columns.append(Column("status", "status", numeric=False))
    rows = []
    cells = sorted(
        {(r, t) for found in (macs, parameters) for c in found.values() for r, points in c.items() for t in points}
    )
    for row, t in cells:
        made: dict[str, Cell] = {}
        for convention, points in parameters.items():
            made[f"parameters_{slug(convention)}"] = cell(points.get(row, {}).get(t), 3, 1e-6)
        for convention, points in macs.items():
            made[f"macs_{slug(convention)}"] = cell(points.get(row, {}).get(t), digits, factor)
            if not convention:
                made["status"] = cell(points.get(row, {}).get(t), digits)
        keys = dict.fromkeys(k for c in made.values() for k in c.records)
        rows.append({"model": text(row, keys), axis.key: number(t, 0, keys), **made})
    return Table(name, "Parameters and MACs", tuple(columns), tuple(rows), conditions=where.words)


def _head(title: str, convention: str, found: dict[str, object]) -> str:
    return title if len(found) == 1 else f"{title}, {convention}"


def _ordered(conventions: Iterable[str]) -> list[str]:
    order = ["unique", *PREFERRED[::-1], "thop"]
    return sorted((c for c in conventions if c), key=lambda c: (order.index(c) if c in order else len(order), c))
