"""What a report is made from: the records, sorted, each once, with the machine and the row each belongs to."""

import json
import re
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pandas as pd

from posescale import records as store
from posescale.records import Record

# Options that say what was compared. The others say how it went (operators seen, routes that agreed, weights' digests).
_CHOICES = ("overrides", "preferences", "recipe", "scope", "trained_on")
# Options in which records of one cell's columns may differ: a condition of scoring, a shape of the scan, a search.
_APART = ("split", "rescored_from", "condition", "backend", "passes", "cache", "shape", "along")
_CELL = (
    "kind", "component", "variant", "label", "study", "dataset", "protocol", "data_digest", "frames", "resolution",
    "batch", "dtype", "mode", "device", "threads", "seed", "selection",
)  # fmt: skip


@dataclass(frozen=True)
class Entry:
    """One record in the report.

    Attributes:
        key: its anchor on the page; the record's id, made unique when two machines gave the same content.
        record: the record.
        machine: short name of the machine that measured.
        row: name of the table row it belongs to: the study's label for it, or the variant, and the options that tell it
            from its siblings.
        study: title of its study, or the study's id.
        superseded_by: key of a newer record of the same cell, or "".
    """

    key: str
    record: Record
    machine: str
    row: str
    study: str = ""
    superseded_by: str = ""


@dataclass(frozen=True)
class Evidence:
    """Everything a report shows: `entries` in a fixed order, and `unreadable` lines (file, line, reason)."""

    entries: tuple[Entry, ...]
    unreadable: tuple[str, ...] = ()

    def current(self, kind: str) -> list[Entry]:
        """Entries of one kind that no newer record replaces, without those that only score predictions again."""
        return [e for e in self._newest(kind) if "rescored_from" not in e.record.options]

    def rescored(self) -> list[Entry]:
        """Accuracies of predictions scored again, under their own or another protocol."""
        return [e for e in self._newest("accuracy") if "rescored_from" in e.record.options]

    def _newest(self, kind: str) -> list[Entry]:
        return [e for e in self.entries if e.record.kind == kind and not e.superseded_by]


def gather(paths: Iterable[Path | str], studies: Mapping[str, str] = MappingProxyType({})) -> Evidence:
    """Read record files and folders; the order of files and lines makes no difference.

    `studies` are titles of studies by the ids that records carry.

    Raises:
        DataError: a path does not exist.
    """
    roots = [Path(p) for p in paths]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = list(store.read(roots))
    for warning in caught:
        warnings.warn(warning.message, stacklevel=2)
    lines = {line for line in (_relative(str(w.message), roots) for w in caught) if "not a record" in line}
    return Evidence(tuple(_entries(found, studies)), tuple(sorted(lines)))


def _entries(found: list[Record], studies: Mapping[str, str]) -> list[Entry]:
    unique = {record.model_dump_json(): record for record in found}
    ordered = sorted(unique.items(), key=lambda item: (_order(item[1]), item[0]))
    newest: dict[str, str] = {}
    entries: list[Entry] = []
    seen: dict[str, int] = {}
    names = row_names([record for _, record in ordered])
    for (_, record), row in zip(ordered, names, strict=True):
        count = seen[record.id] = seen.get(record.id, 0) + 1
        key = record.id if count == 1 else f"{record.id}-{count}"
        entries.append(Entry(key, record, machine_name(record), row, studies.get(record.study, record.study)))
        newest[_cell(record)] = key  # within a cell the order is by time
    newest_of = [newest[_cell(entry.record)] for entry in entries]
    unblocked = {_attempt(e.record): e.key for e in reversed(entries) if e.record.status != "blocked"}
    return [_replaced(entry, key, unblocked) for entry, key in zip(entries, newest_of, strict=True)]


def _replaced(entry: Entry, newest: str, unblocked: dict[str, str]) -> Entry:
    """The entry, with the key of the one that counts in its place, if there is one.

    A blocked record of a campaign's cell lacks most of what tells its results apart (data, protocol), so that it is
    matched by the cell alone; what ended otherwise is never given up for it.
    """
    attempt = _attempt(entry.record)
    if entry.record.status == "blocked" and attempt:
        newest = unblocked.get(attempt, newest)
    return replace(entry, superseded_by=newest) if newest != entry.key else entry


def _attempt(record: Record) -> tuple[str, ...] | None:
    """The campaign's cell that a record is of, on its machine; None for records of no campaign."""
    cell = record.options.get("campaign", {}).get("cell")
    return (record.study, machine_name(record), cell) if cell else None


def _order(record: Record) -> tuple[Any, ...]:
    seed = -1 if record.seed is None else record.seed
    frames = record.frames or 0
    return (
        record.kind,
        record.component,
        record.variant,
        frames,
        record.selection or "",
        seed,
        record.started,
        record.status != "blocked",
        record.id,
    )


def _cell(record: Record) -> str:
    """What was measured, where: a later record of the same cell replaces an earlier one."""
    fields = {name: getattr(record, name) for name in _CELL}
    fields |= {name: record.options.get(name) for name in _APART}
    counted = sorted({(v.name, v.convention) for v in record.values}) if record.kind == "cost" else []
    return json.dumps(
        [fields, choices(record), record.backends, machine_name(record), counted], sort_keys=True, default=str
    )


def machine_name(record: Record) -> str:
    """Short name of the machine and device: the GPU for records made on one, else the processor and its cores."""
    found = record.fingerprint
    on_gpu = (record.device or "").startswith("cuda") and found.get("gpu")
    if on_gpu:
        return str(found["gpu"])
    cpu = re.sub(r"\((R|TM)\)|CPU|Processor|@.*$", " ", str(found.get("cpu") or "unknown machine"))
    cores = found.get("cores")
    return " ".join(cpu.split()) + (f", {cores} cores" if cores else "")


def choices(record: Record) -> dict[str, str]:
    """The options that tell rows of one variant apart, as text; T and the resolution are columns already."""
    flat: dict[str, str] = {}
    for name in _CHOICES:
        value = record.options.get(name)
        parts = value if isinstance(value, Mapping) else {name: value}
        flat |= {
            str(k): v if isinstance(v, str) else json.dumps(v, sort_keys=True, default=str) for k, v in parts.items()
        }
    return {k: v for k, v in flat.items() if k not in {"frames", "height", "width", "note"} and v != "null"}


def row_names(found: list[Record]) -> list[str]:
    """A name per record: its label or variant, with the options and back ends in which its records differ.

    Options are compared within one kind of record: what only latency records carry does not rename accuracy rows.
    """
    groups: dict[tuple[str, str], list[Record]] = {}
    for record in found:
        groups.setdefault((record.kind, _called(record)), []).append(record)
    differing = {group: _differing(members) for group, members in groups.items()}
    return [_row_name(r, differing[r.kind, _called(r)]) for r in found]


def _called(record: Record) -> str:
    return record.label or record.variant


def _differing(members: list[Record]) -> list[str]:
    """Options and operators that tell some records apart; an option left out counts as a choice, an operator does not.

    A record that failed names no back end, and stays in the row of those that did not.
    """
    chosen = [choices(r) for r in members]
    options = {o for c in chosen for o in c if len({other.get(o) for other in chosen}) > 1}
    operators = {o for r in members for o in r.backends if len({m.backends[o] for m in members if o in m.backends}) > 1}
    return sorted(options | operators)


def _row_name(record: Record, differing: list[str]) -> str:
    options = choices(record) | record.backends
    differing = [o for o in differing if o in options]
    suffix = ", ".join(f"{o.rpartition('::')[2]} {options[o]}" for o in differing)
    return _called(record) + (f" ({suffix})" if suffix else "")


def _relative(text: str, roots: list[Path]) -> str:
    """A warning's text with the folder's own place left out, so that moving records changes nothing."""
    for root in sorted(roots, key=lambda r: -len(str(r))):
        text = text.replace(f"{root}/", "", 1) if text.startswith(f"{root}/") else text.replace(str(root), root.name, 1)
    return text


def table(entries: Iterable[Entry]) -> pd.DataFrame:
    """A row per value of some entries, with the entry's `key`, `machine` and `row` beside `records.load`'s columns."""
    rows = [
        {"key": e.key, "machine": e.machine, "row": e.row, "status": e.record.status, **_identity(e.record), **v}
        for e in entries
        for v in _values(e.record)
    ]
    names = ["key", "machine", "row", "status", *_CELL, "started", *_VALUE]
    return pd.DataFrame(rows, columns=names)


_VALUE = ("name", "value", "unit", "better", "convention", "group", "low", "high")


def _identity(record: Record) -> dict[str, Any]:
    return {name: getattr(record, name) for name in (*_CELL, "started")}


def _values(record: Record) -> Iterable[dict[str, Any]]:
    for value in record.values:
        low, high = value.interval or (None, None)
        yield {**value.model_dump(exclude={"interval"}), "low": low, "high": high}
