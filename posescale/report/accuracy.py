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
<<<<<<< HEAD
REFERENCE = "mean_pose"
_CONTROLS = ("ground_truth", "mean_pose", "copy_previous", "null")


class Conditions(NamedTuple):
    """What all numbers of one accuracy table share; no column mixes two of them."""

    study: str
    dataset: str
    data_digest: str
    protocol: str
    frames: int
    selection: str
    split: str
    dtype: str
    machine: str

    @property
    def title(self) -> str:
        """Short heading."""
        parts = [self.study or self.dataset or "unnamed data", f"T = {self.frames}" if self.frames else ""]
        return ", ".join(filter(None, [*parts, f"{self.selection} weights" if self.selection else ""]))

    @property
    def words(self) -> str:
        """Everything, for the line below the heading."""
        data = f"data {self.data_digest}" if self.data_digest else ""
        selection = f"selection: {self.selection}" if self.selection else ""
        split = f"{self.split} split" if self.split else ""
        return " · ".join(filter(None, [self.dataset, data, split, self.protocol, selection, self.dtype, self.machine]))

    @property
    def full(self) -> str:
        """Title and words, for files that stand alone."""
        return f"{self.title} · {self.words}"


def is_control(entry: Entry) -> bool:
    """Whether a record belongs to a control, which bounds a table and never wins it."""
    return entry.record.component == "controls" or entry.record.variant in _CONTROLS


def conditions(entry: Entry) -> Conditions:
    """The conditions a record was scored under."""
    r = entry.record
    return Conditions(
        r.study, r.dataset or "", r.data_digest or "", r.protocol or "", r.frames or 0, r.selection or "",
        str(r.options.get("split") or ""), r.dtype or "", entry.machine,
    )  # fmt: skip


@dataclass(frozen=True)
class Row:
    """One model in one study: its records, one per seed, and their values by metric and group."""

    name: str
    control: bool
    entries: tuple[Entry, ...]
    values: dict[tuple[str, str], dict[str, float]] = field(repr=False)  # (metric, group) -> record key -> value

    def estimate(self, metric: str, group: str = "") -> stats.Estimate | None:
        """Mean over seeds with its interval; NaN when a seed is; None when there is no value."""
        found = list(self.values.get((metric, group), {}).values())
        if not found:
            return None
        if not np.isfinite(found).all():
            return stats.Estimate(float(np.sum(found)), -np.inf, np.inf)
        return stats.t_interval(found)

    def keys(self, metric: str, group: str = "") -> tuple[str, ...]:
        """Keys of the records behind `estimate`."""
        return tuple(self.values.get((metric, group), {}))

    @cached_property
    def by_sequence(self) -> dict[str, float]:
        """MPJPE of each sequence, mean over the seeds that have it all; empty without samples."""
        tables = [_sequences(e) for e in self.entries if e.key in self.values.get(("mpjpe", ""), {})]
        common = set.intersection(*map(set, tables)) if tables else set()
        return {name: float(np.mean([t[name] for t in tables])) for name in sorted(common)}

    @cached_property
    def performance(self) -> dict[str, str]:
        """Which performance each sequence shows; several cameras may have seen one. Empty where no record says it."""
        found: dict[str, str] = {}
        for labels in (entry.record.labels for entry in self.entries):
            found |= dict(zip(labels.get("mpjpe_by_sequence", []), labels.get("performances", [])))
        return found


@dataclass(frozen=True)
class Study:
    """One accuracy table: its conditions and its rows, models from best to worst, then controls."""

    conditions: Conditions
    rows: tuple[Row, ...]
    quantities: dict[str, tuple[str, str]] = field(repr=False)  # metric -> unit and which direction is better

    @property
    def models(self) -> list[Row]:
        """Rows that are not controls."""
        return [row for row in self.rows if not row.control]

    @property
    def best(self) -> Row | None:
        """The model with the lowest mean MPJPE."""
        found = [row for row in self.models if _level(row) < np.inf]
        return min(found, key=lambda row: (_level(row), row.name), default=None)

    @property
    def reference(self) -> Row | None:
        """The mean-pose control."""
        return next((row for row in self.rows if row.control and row.name.split(" ")[0] == REFERENCE), None)


def _sequences(entry: Entry) -> dict[str, float]:
    errors = entry.record.samples.get("mpjpe_by_sequence", [])
    names = entry.record.labels.get("mpjpe_by_sequence", [])
    return dict(zip(names, errors, strict=True)) if len(names) == len(errors) and np.isfinite(errors).all() else {}


def _level(row: Row) -> float:
    estimate = row.estimate("mpjpe")
    return estimate.value if estimate and np.isfinite(estimate.value) else np.inf


def studies(evidence: Evidence, values: pd.DataFrame) -> list[Study]:
    """All studies of the records, each with the controls that share its data, protocol, T and machine."""
    entries = evidence.current("accuracy")
    found = sorted({conditions(e) for e in entries if not is_control(e)}) or sorted({conditions(e) for e in entries})
    by_row: dict[tuple[Conditions, str], list[Entry]] = {}
    for entry in entries:
        for study in found:
            own = conditions(entry)
            if own == study or (is_control(entry) and own._replace(selection=study.selection) == study):
                by_row.setdefault((study, entry.row), []).append(entry)
    numbers = _numbers(values)
    rows = {key: _row(key[1], members, numbers) for key, members in by_row.items()}
    quantities = {v.name: (v.unit, v.better) for v in values[values["kind"] == "accuracy"].itertuples()}
    return [Study(study, _ranked(row for (own, _), row in rows.items() if own == study), quantities) for study in found]


def _numbers(values: pd.DataFrame) -> dict[str, dict[tuple[str, str], float]]:
    found: dict[str, dict[tuple[str, str], float]] = {}
    chosen = values[(values["kind"] == "accuracy") & values["status"].isin(["ok", "unstable"])]
    for key, name, group, value in zip(chosen["key"], chosen["name"], chosen["group"], chosen["value"], strict=True):
        found.setdefault(key, {})[(name, group)] = value
    return found


def _row(name: str, entries: list[Entry], numbers: dict[str, dict[tuple[str, str], float]]) -> Row:
    values: dict[tuple[str, str], dict[str, float]] = {}
    for entry in entries:
        for quantity, value in numbers.get(entry.key, {}).items():
            values.setdefault(quantity, {})[entry.key] = value
    return Row(name, is_control(entries[0]), tuple(entries), values)


def _ranked(rows: Iterable[Row]) -> tuple[Row, ...]:
    return tuple(sorted(rows, key=lambda row: (row.control, _level(row), row.name)))


class Difference(NamedTuple):
    """MPJPE of one model minus another's.

    Attributes:
        estimate: with the interval of the paired bootstrap.
        sequences: that both have.
        performances: they show, redrawn with all their cameras; None where records do not say which belong together.
    """

    estimate: stats.Estimate
    sequences: int
    performances: int | None


def difference(ours: Row, theirs: Row) -> Difference | None:
    """Paired bootstrap over the sequences both have; None when fewer than two are independent."""
    common = sorted(set(ours.by_sequence) & set(theirs.by_sequence))
    known = ours.performance | theirs.performance
    together = [known.get(name, "") for name in common]
    clusters = together if all(together) else common
    if len(set(clusters)) < 2:
        return None
    pairs = [[row.by_sequence[name] for name in common] for row in (ours, theirs)]
    estimate = stats.paired_bootstrap(*pairs, clusters=clusters)
    return Difference(estimate, len(common), len(set(clusters)) if all(together) else None)
=======
>>>>>>> vpipe


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
        Column("sequences", "sequences"),
<<<<<<< HEAD
        Column("performances", "performances"),
        Column("difference", "MPJPE difference", "mm"),
=======
        Column("difference", f"{study.measure.title} difference", study.measure.unit),
>>>>>>> vpipe
        Column("verdict", "verdict", numeric=False),
    )
    caption = (
        "Row minus “against”, paired bootstrap over test performances, all cameras of one together; each sequence the "
        "mean of its seeds. Sequences weigh alike."
    )
    if any(cells["performances"].value == "" for cells in rows):
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
<<<<<<< HEAD
    estimate = found.estimate
    keys = a.keys("mpjpe") + b.keys("mpjpe")
    verdict = (
        f"{a.name} is better" if estimate.high < 0 else f"{b.name} is better" if estimate.low > 0 else "not separated"
    )
    return {
        "model": text(a.name, a.keys("mpjpe")),
        "other": text(b.name, b.keys("mpjpe")),
        "sequences": number(found.sequences, 0, keys),
        "performances": number(found.performances, 0, keys),
=======
    estimate, sequences = found
    keys = a.scored + b.scored
    verdict = {1: f"{a.name} is better", -1: f"{b.name} is better", 0: "not separated"}[better_by(a.measure, estimate)]
    return {
        "model": text(a.name, a.scored),
        "other": text(b.name, b.scored),
        "sequences": number(sequences, 0, keys),
>>>>>>> vpipe
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
