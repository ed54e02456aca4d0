"""What accuracy tables are made of: studies, in which everything is equal but the model and the seed."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

import numpy as np
import pandas as pd

from posescale import stats
from posescale.report.cost import size_words
from posescale.report.evidence import Entry, Evidence, row_names

CONTROLS = ("ground_truth", "mean_pose", "copy_previous", "interpolate_visible", "null")
Numbers = dict[tuple[str, str], dict[str, float]]  # (metric, group) -> record key -> value


@dataclass(frozen=True)
class Measure:
    """The number that a study's models are ranked by.

    Attributes:
        name: of the value in records; `<name>_by_sequence` are its samples.
        title, unit, digits: how it is printed.
        better: which direction is.
        groups: what its groups are called.
        reference: the control that errors are set against, or "".
    """

    name: str
    title: str
    unit: str
    digits: int
    better: str
    groups: str
    reference: str = ""

    def level(self, value: float | None) -> float:
        """A key that sorts the best first; infinite where there is no finite value."""
        if value is None or not np.isfinite(value):
            return np.inf
        return value if self.better == "lower" else -value

    @property
    def axis(self) -> str:
        """Title and unit."""
        return f"{self.title} ({self.unit})"


MPJPE = Measure("mpjpe", "MPJPE", "mm", 1, "lower", "action", "mean_pose")
PCK = Measure("pck", "PCK", "%", 1, "higher", "joint group")
AP = Measure("ap", "AP", "%", 1, "higher", "joint group")
MEASURES = (MPJPE, PCK, AP)  # the first one that a study's records hold ranks its models


class Conditions(NamedTuple):
    """What all numbers of one accuracy table share; no column mixes two of them.

    In video a table holds models of several T, one of which may see a single frame; T is a column then, and 0 here.
    """

    study: str
    dataset: str
    data_digest: str
    protocol: str
    frames: int
    selection: str
    split: str
    dtype: str
    machine: str
    resolution: str = ""
    called: str = ""

    @property
    def title(self) -> str:
        """Short heading."""
        parts = [
            self.called or self.study or self.dataset or "unnamed data",
            f"T = {self.frames}" if self.frames else "",
        ]
        return ", ".join(filter(None, [*parts, f"{self.selection} weights" if self.selection else ""]))

    @property
    def words(self) -> str:
        """Everything, for the line below the heading."""
        data = f"data {self.data_digest}" if self.data_digest else ""
        selection = f"selection: {self.selection}" if self.selection else ""
        split = f"{self.split} split" if self.split else ""
        study = f"study {self.study}" if self.called not in ("", self.study) else ""
        parts = [study, self.dataset, data, split, self.protocol, self.resolution, selection, self.dtype, self.machine]
        return " · ".join(filter(None, parts))

    @property
    def full(self) -> str:
        """Title and words, for files that stand alone."""
        return f"{self.title} · {self.words}"


def is_control(entry: Entry) -> bool:
    """Whether a record belongs to a control, which bounds a table and never wins it."""
    return entry.record.component == "controls" or entry.record.variant in CONTROLS


def is_video(entry: Entry) -> bool:
    """Whether a record is of pose in video."""
    return entry.record.options.get("task") == "video"


def condition_of(entry: Entry) -> str:
    """What the other frames of a clip were at test."""
    return str(entry.record.options.get("condition") or "as_is")


def conditions(entry: Entry) -> Conditions:
    """The conditions a record was scored under."""
    r = entry.record
    return Conditions(
        r.study, r.dataset or "", r.data_digest or "", r.protocol or "", 0 if is_video(entry) else r.frames or 0,
        r.selection or "", str(r.options.get("split") or ""), r.dtype or "", entry.machine,
        size_words(r.resolution) if is_video(entry) else "", entry.study,
    )  # fmt: skip


@dataclass(frozen=True)
class Row:
    """One model in one study: its records, one per seed, and their values by metric and group.

    Attributes:
        name: as printed; several T of one model in a table have names of their own.
        look: the name by which it is drawn.
        frames: T.
    """

    name: str
    look: str
    frames: int
    control: bool
    entries: tuple[Entry, ...]
    measure: Measure
    values: Numbers = field(repr=False)

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

    @property
    def mean(self) -> stats.Estimate | None:
        """Of the study's measure."""
        return self.estimate(self.measure.name)

    @property
    def scored(self) -> tuple[str, ...]:
        """Keys of the records behind `mean`."""
        return self.keys(self.measure.name)

    @property
    def level(self) -> float:
        """Sorts the best first."""
        return self.measure.level(self.mean and self.mean.value)

    @cached_property
    def by_sequence(self) -> dict[str, float]:
        """The study's measure by sequence, mean over the seeds that have it all; empty without samples."""
        tables = [samples_of(e, f"{self.measure.name}_by_sequence") for e in self.entries if e.key in self.scored]
        common = set.intersection(*map(set, tables)) if tables else set()
        return {name: float(np.mean([t[name] for t in tables])) for name in sorted(common)}

    @cached_property
    def performance(self) -> dict[str, str]:
        """Which performance each sequence shows; several cameras may have seen one. Empty where no record says it."""
        found: dict[str, str] = {}
        for labels in (entry.record.labels for entry in self.entries):
            found |= dict(zip(labels.get(f"{self.measure.name}_by_sequence", []), labels.get("performances", [])))
        return found


def samples_of(entry: Entry, name: str) -> dict[str, float]:
    """Samples of a record by their labels; empty where some are missing or not finite."""
    found, names = entry.record.samples.get(name, []), entry.record.labels.get(name, [])
    return dict(zip(names, found, strict=True)) if len(names) == len(found) and np.isfinite(found).all() else {}


@dataclass(frozen=True)
class Study:
    """One accuracy table: its conditions and its rows, models from best to worst, then controls.

    Attributes:
        quantities: metric -> unit and which direction is better.
        altered: condition in time -> row name -> the same models scored under it; video alone.
    """

    conditions: Conditions
    measure: Measure
    rows: tuple[Row, ...]
    quantities: dict[str, tuple[str, str]] = field(repr=False)
    altered: dict[str, dict[str, Row]] = field(repr=False, default_factory=dict)

    @property
    def video(self) -> bool:
        """Whether it is one of pose in video."""
        return any(is_video(e) for row in self.rows for e in row.entries)

    @property
    def models(self) -> list[Row]:
        """Rows that are not controls."""
        return [row for row in self.rows if not row.control]

    @property
    def best(self) -> Row | None:
        """The best model by the mean of the study's measure."""
        found = [row for row in self.models if row.level < np.inf]
        return min(found, key=lambda row: (row.level, row.name), default=None)

    @property
    def reference(self) -> Row | None:
        """The control that errors are set against."""
        return next((r for r in self.rows if r.control and r.name.split(" ")[0] == self.measure.reference), None)


def studies(evidence: Evidence, values: pd.DataFrame) -> list[Study]:
    """All studies of the records, each with the controls that share its data, protocol, T and machine."""
    entries = evidence.current("accuracy")
    found = sorted({conditions(e) for e in entries if not is_control(e)}) or sorted({conditions(e) for e in entries})
    members: dict[Conditions, list[Entry]] = {study: [] for study in found}
    by_own: dict[Conditions, list[Entry]] = {}
    for entry in entries:
        by_own.setdefault(conditions(entry), []).append(entry)
    for study in found:
        bounds = study._replace(selection="", resolution="")
        controls = [e for e in by_own.get(bounds, []) if is_control(e)] if bounds != study else []
        members[study] = by_own.get(study, []) + controls
    members = dict(sorted(members.items(), key=_newest_run_first(members)))
    numbers = _numbers(values)
    quantities = {v.name: (v.unit, v.better) for v in values[values["kind"] == "accuracy"].itertuples()}
    return [_study(study, own, numbers, quantities) for study, own in members.items()]


def _newest_run_first(members: dict[Conditions, list[Entry]]) -> Callable[[tuple[Conditions, list[Entry]]], object]:
    """Sort key: studies of the newest commit and machine first, published ones of earlier days below; then by name."""
    newest = {study: max((e.record.started, _run(e)) for e in entries) for study, entries in members.items()}
    ended: dict[tuple[str, str], str] = {}
    for started, run in newest.values():
        ended[run] = max(started, ended.get(run, ""))
    ranked = sorted(ended, key=lambda run: (ended[run], run), reverse=True)
    return lambda item: (ranked.index(newest[item[0]][1]), item[0])


def _run(entry: Entry) -> tuple[str, str]:
    return str(entry.record.fingerprint.get("commit")), entry.machine


def _study(
    where: Conditions,
    entries: list[Entry],
    numbers: dict[str, dict[tuple[str, str], float]],
    quantities: dict[str, tuple[str, str]],
) -> Study:
    known = {name for e in entries for name, group in numbers.get(e.key, {}) if not group}
    measure = next((m for m in MEASURES if m.name in known), PCK if any(map(is_video, entries)) else MPJPE)
    by_condition: dict[str, list[Entry]] = {}
    for entry in entries:
        by_condition.setdefault(condition_of(entry), []).append(entry)
    names = dict(zip((e.key for e in entries), row_names([e.record for e in entries]), strict=True))
    rows = {c: _rows(found, names, measure, numbers) for c, found in by_condition.items()}
    altered = {c: {row.name: row for row in found} for c, found in rows.items() if c != "as_is"}
    ranked = sorted(rows.get("as_is", []), key=lambda row: (row.control, row.level, row.name))
    return Study(where, measure, tuple(ranked), quantities, altered)


def _numbers(values: pd.DataFrame) -> dict[str, dict[tuple[str, str], float]]:
    found: dict[str, dict[tuple[str, str], float]] = {}
    chosen = values[(values["kind"] == "accuracy") & values["status"].isin(["ok", "unstable"])]
    for key, name, group, value in zip(chosen["key"], chosen["name"], chosen["group"], chosen["value"], strict=True):
        found.setdefault(key, {})[(name, group)] = value
    return found


def _rows(
    entries: Iterable[Entry], names: dict[str, str], measure: Measure, numbers: dict[str, dict[tuple[str, str], float]]
) -> list[Row]:
    """A row per model and T; `names` (by key) tell the rows of this study apart, other studies' options left out."""
    found: dict[str, dict[int, list[Entry]]] = {}
    for entry in entries:
        found.setdefault(names[entry.key], {}).setdefault(entry.record.frames or 0, []).append(entry)
    return [
        _row(name + (f", T = {frames}" if len(lengths) > 1 else ""), frames, members, measure, numbers)
        for name, lengths in found.items()
        for frames, members in lengths.items()
    ]


def _row(
    name: str,
    frames: int,
    entries: list[Entry],
    measure: Measure,
    numbers: dict[str, dict[tuple[str, str], float]],
) -> Row:
    values: Numbers = {}
    for entry in entries:
        for quantity, value in numbers.get(entry.key, {}).items():
            values.setdefault(quantity, {})[entry.key] = value
    return Row(name, entries[0].row, frames, is_control(entries[0]), tuple(entries), measure, values)


class Difference(NamedTuple):
    """The study's measure of one model minus another's.

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
    clusters, known = clusters_of(common, ours, theirs)
    if len(set(clusters)) < 2:
        return None
    pairs = [[row.by_sequence[name] for name in common] for row in (ours, theirs)]
    estimate = stats.paired_bootstrap(*pairs, clusters=clusters)
    return Difference(estimate, len(common), len(set(clusters)) if known else None)


def clusters_of(sequences: list[str], *rows: Row) -> tuple[list[str], bool]:
    """What is redrawn together, and whether the records say so: performances, or else each sequence by itself."""
    known = {name: shown for row in rows for name, shown in row.performance.items()}
    together = [known.get(name, "") for name in sequences]
    return (together, True) if all(together) else (sequences, False)


def better_by(measure: Measure, gap: stats.Estimate) -> int:
    """1 where a difference's interval says that ours is better, -1 that theirs is, 0 where it covers zero."""
    low, high = (gap.low, gap.high) if measure.better == "higher" else (-gap.high, -gap.low)
    return 1 if low > 0 else -1 if high < 0 else 0
