"""Ablations: rows of one model with arguments of their own, against the row without, beside what its paper printed."""

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from posescale import stats
from posescale.cards import components
from posescale.claims import Claim, load_claims
from posescale.report.page import Grid, Heading, Note, Section, listing, slug
from posescale.report.studies import Row, Study, better_by, clusters_of
from posescale.report.tables import Cell, Column, Table, fixed, number, text

SIZES = ("frozen", "height", "width", "frames", "joints")  # arguments that say how a row was trained, not what it is


class Part(NamedTuple):
    """One row of an ablation: what differs from the whole model, the difference in the study's measure, and how many
    sequences it was taken over.
    """

    row: Row
    changes: dict[str, Any]
    gap: stats.Estimate | None
    sequences: int


def sections(found: list[Study]) -> list[Section]:
    """The page's section on ablations, where a study holds some."""
    blocks = []
    for study in found:
        for whole, parts in ablations(study):
            where = study.conditions
            name = slug("ablation", where.study or where.dataset, whole.name, where.selection)
            blocks += [
                Heading(f"{where.title}: {whole.name}", where.words),
                Grid(ablation_table(study, whole, parts, name)),
            ]
            blocks += [Note(words) for words in _remarks(study, whole, parts)]
    lead = (
        "Each row is the model with one thing changed, trained for the same steps; differences are row minus the whole "
        "model. Published differences are of the paper's own size and data, so that only their signs and order can be "
        "compared with ours."
    )
    return [Section("ablation", "Ablations", lead, tuple(blocks))] if blocks else []


def ablations(study: Study) -> list[tuple[Row, list[Part]]]:
    """Whole models of a study, each with the rows that differ from it in the constructor's arguments."""
    families: dict[str, list[Row]] = {}
    for row in study.models:
        families.setdefault(row.entries[0].record.variant, []).append(row)
    found = []
    for rows in families.values():
        whole = [row for row in rows if not row.entries[0].record.label]
        if len(whole) == 1 and len(rows) > 1:
            others = [row for row in rows if row is not whole[0] and row.frames == whole[0].frames]
            found.append((whole[0], [_part(row, whole[0]) for row in others]))
    return found


def _part(row: Row, whole: Row) -> Part:
    ours, theirs = _arguments(row), _arguments(whole)
    changes = {k: v for k, v in ours.items() if theirs.get(k) != v}
    gap = whole_gap(row, whole)
    return Part(row, changes, *(gap or (None, 0)))


def _arguments(row: Row) -> dict[str, Any]:
    record = row.entries[0].record
    card = components().get(record.variant)
    return (card.parameters if card else {}) | (record.options.get("overrides") or {})


def whole_gap(ours: Row, theirs: Row) -> tuple[stats.Estimate, int] | None:
    """The study's measure, ours minus theirs, seeds and sequences redrawn, and the number of sequences."""
    name = f"{ours.measure.name}_by_sequence"
    tables = [
        [t for e in row.entries if e.key in row.scored and (t := _table(e.record, name))] for row in (ours, theirs)
    ]
    if not all(tables):
        return None
    common = sorted(set.intersection(*(set(t) for found in tables for t in found)))
    if len(common) < 2:
        return None
    weights = _table(ours.entries[0].record, "joints_by_sequence")
    mass = [weights[n] for n in common] if set(common) <= set(weights) else None
    values = ([[t[n] for n in common] for t in found] for found in tables)
    return stats.crossed_bootstrap(*values, mass, clusters_of(common, ours, theirs)[0]), len(common)


def _table(record: Any, name: str) -> dict[str, float]:
    values, names = record.samples.get(name, []), record.labels.get(name, [])
    return {n: v for n, v in zip(names, values, strict=False) if v == v}


def published(whole: Row, changes: Mapping[str, Any]) -> list[tuple[Claim, float]]:
    """Printed differences of the same change: its row minus the paper's whole model, in the same table.

    A claim's component may be a larger variant of the same card: the arguments that differ must be the same ones.
    """
    card = whole.entries[0].record.component
    known = components()
    mine = {v for v, c in known.items() if c.card.id == card}
    own = {k: v for k, v in changes.items() if k not in SIZES}
    claims = [c for c in load_claims() if c.component in mine and c.family == "accuracy"]
    found = []
    for claim in (c for c in claims if c.overrides and dict(c.overrides) == own):
        base = next((c for c in claims if not c.overrides and _place(c) == _place(claim)), None)
        if base is not None:
            found.append((claim, claim.value - base.value))
    return found


def _place(claim: Claim) -> tuple[Any, ...]:
    return claim.paper, claim.table, claim.component, claim.quantity


def ablation_table(study: Study, whole: Row, parts: list[Part], name: str) -> Table:
    """The whole model, then its parts by what they lose."""
    measure = study.measure
    columns = (
        Column("row", "row", numeric=False), Column("changes", "changed", numeric=False), Column("seeds", "n"),
        Column(measure.name, measure.title, measure.unit), Column("difference", "difference", "points"),
        Column("verdict", "verdict", numeric=False), Column("published", "published difference", "points"),
        Column("source", "of", numeric=False),
    )  # fmt: skip
    rows = [{"row": text(f"{whole.name}, whole", whole.scored), **_level(whole)}]
    rows += [_row(whole, part) for part in sorted(parts, key=lambda p: (p.row.level, p.row.name))]
    caption = (
        "Mean over seeds with Student's interval. Difference: row minus whole, seeds and videos redrawn (2,000 times), "
        "joints weigh alike. Published: from the ledger of published numbers, in the paper's own metric."
    )
    return Table(name, "Row by row", columns, tuple(rows), caption, conditions=study.conditions.full)


def _level(row: Row) -> dict[str, Cell]:
    measure, keys = row.measure, [e.key for e in row.entries]
    if row.mean is None:
        lost = [e.record for e in row.entries]
        why = "; ".join(sorted({r.reason for r in lost}))
        cell = text(listing(sorted({r.status for r in lost})), keys, tone="bad", detail=why)
        return {"seeds": number(0, 0, keys), measure.name: cell}
    return {
        "seeds": number(len(row.scored), 0, keys),
        measure.name: number(row.mean.value, measure.digits, keys, row.mean[1:]),
    }


def _row(whole: Row, part: Part) -> dict[str, Cell]:
    keys = part.row.scored + whole.scored
    cells = {"row": text(part.row.name, [e.key for e in part.row.entries]), **_level(part.row)}
    cells["changes"] = text(changed(part.changes), [e.key for e in part.row.entries])
    if part.gap is not None:
        word = {1: "gains", -1: "loses", 0: "interval covers zero"}[better_by(whole.measure, part.gap)]
        cells["difference"] = number(part.gap.value, 2, keys, part.gap[1:])
        cells["verdict"] = text(word, keys, tone="quiet" if word.startswith("interval") else "")
    printed = published(whole, part.changes)
    if printed:
        claim, delta = printed[0]
        cells["published"] = Cell(fixed(delta, 1), delta, keys)
        names = dict.fromkeys(f"{c.quantity.upper()}, {c.model}, {c.paper}, {c.table}" for c, _ in printed[:1])
        cells["source"] = text(listing(names), keys)
    return cells


def changed(changes: Mapping[str, Any]) -> str:
    """Arguments as words."""
    words = [f"{k} {v if isinstance(v, str) else json.dumps(v)}" for k, v in sorted(changes.items())]
    return ", ".join(words) or "nothing"


def _remarks(study: Study, whole: Row, parts: list[Part]) -> list[str]:
    open_ = [p.row.name for p in parts if p.gap is not None and better_by(study.measure, p.gap) == 0]
    remarks = []
    if open_:
        remarks.append(
            f"The interval covers zero for {listing(open_, 9)}: nothing is shown for or against those parts."
        )
    if len(whole.scored) == 1:
        remarks.append("One seed of the whole model: its differences speak of videos, not of trainings.")
    return remarks
