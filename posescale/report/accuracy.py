"""Accuracy: one block per study, in which everything is equal but the model and the seed."""

from collections.abc import Iterable
from itertools import combinations

import numpy as np

from posescale.report.by_frames import by_frames
from posescale.report.forest import forest
from posescale.report.page import Block, Grid, Heading, Note, Section, count, listing, slug
from posescale.report.studies import Row, Study, better_by, difference
from posescale.report.style import Look
from posescale.report.tables import Cell, Column, Table, number, text

METRICS = {"mpjpe": "MPJPE", "p_mpjpe": "P-MPJPE", "n_mpjpe": "N-MPJPE", "mpjve": "MPJVE", "pck": "PCK", "ap": "AP"}
DIGITS = {"mpjpe": 1, "p_mpjpe": 1, "n_mpjpe": 1}


def section(found: list[Study], looks: dict[str, Look], rescored: Iterable[Block] = ()) -> Section:
    """The page's section on accuracy; `rescored` are the tables of predictions under several protocols."""
    blocks: list[Block] = []
    for study in found:
        blocks += _blocks(study, looks)
    blocks += [*by_frames(found, looks), *rescored]
    lead = (
        "Mean over seeds with Student's 95 % interval in brackets; n is the number of seeds. Errors in mm are better "
        "low, PCK and AP high. Controls bound each table: the ground truth itself, the mean pose of the training set, "
        "and the pose of the frame before. A table never mixes datasets, protocols, selection rules or machines; in "
        "lifting it has one clip length, in video T is a column, because one rival sees a single frame."
    )
    return Section("accuracy", "Accuracy", lead if found else "No accuracy records.", tuple(blocks))


def _blocks(study: Study, looks: dict[str, Look]) -> list[Block]:
    where = study.conditions
    name = slug("accuracy", where.study or where.dataset, f"T{where.frames}" if where.frames else "", where.selection)
    blocks: list[Block] = [Heading(study.conditions.title, study.conditions.words), Grid(main_table(study, name))]
    blocks += [Note(text) for text in _remarks(study)]
    blocks += forest(study, looks, f"{name}-forest")
    tables = [pair_table(study, f"{name}-pairs"), group_table(study, f"{name}-{slug(study.measure.groups)}s")]
    return blocks + [Grid(table) for table in tables if table.rows]


def _remarks(study: Study) -> list[str]:
    remarks = []
    if study.measure.reference and study.reference is None and any(row.scored for row in study.models):
        remarks.append("No mean-pose record shares these conditions, so the share of the mean pose is not given.")
    few = sorted({row.name for row in study.models if 0 < len(row.scored) < 3})
    if few:
        remarks.append(f"Fewer than three seeds: {listing(few)}. One seed has no interval.")
    for row in study.rows:
        lost = [e.record for e in row.entries if e.record.status not in {"ok", "unstable"}]
        if lost and row.scored:
            ends = listing(sorted({r.status for r in lost}))
            remarks.append(
                f"{row.name}: {len(lost)} of {count(len(row.entries), 'seed')} ended {ends}; not in the mean."
            )
        digests = sorted({e.record.digest for e in row.entries})
        if len(digests) > 1:
            remarks.append(
                f"{row.name}: its seeds were measured with different sources of the model ({listing(digests)})."
            )
    return remarks


def main_table(study: Study, name: str) -> Table:
    """Models and controls by metric."""
    measure = study.measure
    found = {metric for row in study.rows for metric, group in row.values if not group}
    metrics = [m for m in METRICS if m in found] + sorted(found - set(METRICS)) or [measure.name]
    best = {m: _best(study, m) for m in metrics}
    units = {m: study.quantities.get(m, (measure.unit, ""))[0] for m in metrics}
    columns = [Column("model", "model", numeric=False), *([Column("frames", "T")] if study.video else [])]
    columns += [Column("seeds", "n"), *(Column(m, METRICS.get(m, m), units[m]) for m in metrics)]
    columns += [Column("share", f"of {measure.reference.replace('_', ' ')}", "%")] if measure.reference else []
    rows = [_main_row(row, study, metrics, best) for row in study.rows]
    return Table(
        name, f"{'Error' if measure.better == 'lower' else 'Found'} by model", tuple(columns), tuple(rows),
        caption="Bold: best mean among models. Controls are set in grey.", conditions=study.conditions.full,
    )  # fmt: skip


def _best(study: Study, metric: str) -> float | None:
    """The best finite mean of a metric among models; None where no direction is better."""
    means = [e.value for row in study.models if (e := row.estimate(metric)) and np.isfinite(e.value)]
    choose = {"lower": min, "higher": max}.get(study.quantities.get(metric, ("", "none"))[1])
    return choose(means) if choose and means else None


def _main_row(row: Row, study: Study, metrics: list[str], best: dict[str, float | None]) -> dict[str, Cell]:
    keys = [e.key for e in row.entries]
    tone = "quiet" if row.control else ""
    cells = {"model": text(row.name, keys, note="control" if row.control else "", tone=tone)}
    scored = max((row.keys(m) for m in metrics), key=len)
    cells["frames"] = text(row.frames or "", keys, tone=tone)
    cells["seeds"] = number(len(scored), 0, scored or keys, tone=tone)
    for metric in metrics:
        cells[metric] = _metric_cell(row, metric, tone, best[metric])
    cells["share"] = _share(row, study.reference, tone)
    return cells


def _metric_cell(row: Row, metric: str, tone: str, best: float | None) -> Cell:
    estimate = row.estimate(metric)
    lost = [e for e in row.entries if e.record.status not in {"ok", "unstable"}]
    if estimate is None:
        status = listing(sorted({e.record.status for e in lost})) if lost else "no value"
        return text(
            status, [e.key for e in row.entries], tone="bad", detail="; ".join(sorted({e.record.reason for e in lost}))
        )
    tone = tone or ("best" if estimate.value == best else "")
    return number(estimate.value, DIGITS.get(metric, 2), row.keys(metric), estimate[1:], tone)


def _share(row: Row, reference: Row | None, tone: str) -> Cell:
    ours, base = row.mean, reference and reference.mean
    if not ours or not base or not base.value > 0:
        return number(None, 0, row.scored)
    return number(100 * ours.value / base.value, 0, row.scored + reference.scored, tone=tone)


def pair_table(study: Study, name: str) -> Table:
    """Differences between models over the same sequences: all pairs of up to six models, else each with the best."""
    models = [row for row in study.models if len(row.by_sequence) > 1]
    pairs = list(combinations(models, 2)) if len(models) <= 6 else [(models[0], other) for other in models[1:]]
    rows = [row for a, b in pairs if (row := _pair_row(a, b))]
    columns = (
        Column("model", "model", numeric=False),
        Column("other", "against", numeric=False),
        Column("sequences", "videos" if study.video else "sequences"),
        *(() if study.video else (Column("performances", "performances"),)),
        Column("difference", f"{study.measure.title} difference", study.measure.unit),
        Column("verdict", "verdict", numeric=False),
    )
    drawn = "videos" if study.video else "performances, all cameras of one together"
    caption = (
        f"Row minus “against”, paired bootstrap over test {drawn}; each sequence the mean of its seeds. Sequences "
        "weigh alike."
    )
    if not study.video and any(cells["performances"].value == "" for cells in rows):
        caption += (
            " Where no number of performances is given, the records do not say which sequences are one performance "
            "seen by several cameras: each sequence was drawn by itself, and the interval is rather too narrow."
        )
    title = "Paired comparison by sequence"
    return Table(name, title, columns, tuple(rows), caption, len(rows) > 3, study.conditions.full)


def _pair_row(a: Row, b: Row) -> dict[str, Cell] | None:
    found = difference(a, b)
    if found is None:
        return None
    estimate = found.estimate
    keys = a.scored + b.scored
    verdict = {1: f"{a.name} is better", -1: f"{b.name} is better", 0: "not separated"}[better_by(a.measure, estimate)]
    return {
        "model": text(a.name, a.scored),
        "other": text(b.name, b.scored),
        "sequences": number(found.sequences, 0, keys),
        "performances": number(found.performances, 0, keys),
        "difference": number(estimate.value, 2, keys, estimate[1:]),
        "verdict": text(verdict, keys),
    }


def group_table(study: Study, name: str) -> Table:
    """The study's measure by action or group of joints, one column per model."""
    measure = study.measure
    names = dict.fromkeys(g for row in study.rows for metric, g in row.values if metric == measure.name and g)
    groups = list(names) if study.video else sorted(names)  # joint groups have an order of their own
    shown = [row for row in study.rows if row.scored]
    columns = [Column(slug(measure.groups), measure.groups, numeric=False)]
    columns += [Column(f"{row.name} ({measure.unit})", row.name, measure.unit) for row in shown]
    rows = [_group_row(group, shown, columns) for group in groups]
    if rows:
        whole = "all joints" if study.video else "mean over actions"
        rows.append(_group_row("", shown, columns) | {columns[0].key: text(whole)})
    title = f"{measure.title} by {measure.groups}"
    return Table(name, title, tuple(columns), tuple(rows), "Mean over seeds.", True, study.conditions.full)


def _group_row(group: str, shown: list[Row], columns: list[Column]) -> dict[str, Cell]:
    measure = shown[0].measure
    estimates = [row.estimate(measure.name, group) for row in shown]
    levels = [measure.level(e.value) for row, e in zip(shown, estimates, strict=True) if e and not row.control]
    best = min((level for level in levels if np.isfinite(level)), default=None)
    cells = {columns[0].key: text(group)}
    for row, column, estimate in zip(shown, columns[1:], estimates, strict=True):
        value = estimate.value if estimate else None
        tone = "quiet" if row.control else "best" if value is not None and measure.level(value) == best else ""
        cells[column.key] = number(value, measure.digits, row.keys(measure.name, group), tone=tone)
    return cells
