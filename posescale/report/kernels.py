"""The scan by itself, the largest that fits, and checks: records of kinds that no model's table holds."""

from collections.abc import Iterable
from typing import Any, NamedTuple

import pandas as pd

from posescale.report.evidence import Entry, Evidence
from posescale.report.page import Block, Grid, Section, slug
from posescale.report.sweep import Point, cell
from posescale.report.tables import Cell, Column, Table, number, significant, text

_SHAPE = {"length": "L", "batch": "batch", "channels": "D", "states": "N", "directions": "K"}
_ALONG = {"frames": "frames of a clip", "batch": "clips of a batch", "resolution": "pixels of a side"}


class Conditions(NamedTuple):
    """What the times of one table of back ends share."""

    machine: str
    device: str
    dtype: str
    mode: str
    passes: str
    cache: str

    @property
    def words(self) -> str:
        """All of them."""
        cache = f"{self.cache} caches" if self.cache else ""
        return " · ".join(filter(None, [self.machine, self.device, self.dtype, self.mode, self.passes, cache]))


def section(evidence: Evidence, values: pd.DataFrame) -> Section | None:
    """The page's section on kernels and limits; none where no record speaks of them."""
    tables = [*_scans(evidence, values), *_limits(evidence, values), *_checks(evidence)]
    lead = (
        "The selective scan without a model around it, by back end; the longest clips, largest batches and pictures "
        "that a device holds; and whether what was timed computes what it should."
    )
    blocks: list[Block] = [Grid(table) for table in tables]
    return Section("kernels", "Kernels and limits", lead, tuple(blocks)) if blocks else None


def _scans(evidence: Evidence, values: pd.DataFrame) -> Iterable[Table]:
    """One table per conditions: a row per shape, a column per back end."""
    times = _values(values, "operator", "latency")
    found: dict[Conditions, dict[tuple[Any, ...], dict[str, Entry]]] = {}
    for entry in evidence.current("operator"):
        r, shape = entry.record, entry.record.options.get("shape")
        if shape:
            where = Conditions(entry.machine, r.device or "", r.dtype or "", r.mode or "",
                               r.options.get("passes", ""), r.options.get("cache", ""))  # fmt: skip
            row = (str(r.options.get("label", r.variant)), *(shape[name] for name in _SHAPE))
            found.setdefault(where, {}).setdefault(row, {})[r.options["backend"]] = entry
    for where, rows in sorted(found.items()):
        names = sorted({name for entries in rows.values() for name in entries})
        columns = (Column("of", "of", numeric=False), *(Column(name, sign) for name, sign in _SHAPE.items()),
                   *(Column(name, name) for name in names))  # fmt: skip
        made = tuple(_scan_row(row, entries, times) for row, entries in sorted(rows.items()))
        title = f"The scan alone, {where.passes or 'forward'} (ms)"
        caption = "p50 of one call with its 95 % interval; back ends timed in interleaved rounds."
        yield Table(slug("scan", where.passes, where.machine.split(",")[0], where.dtype, where.mode, where.cache),
                    title, columns, made, caption, conditions=where.words)  # fmt: skip


def _scan_row(row: tuple[Any, ...], entries: dict[str, Entry], times: dict[str, Any]) -> dict[str, Cell]:
    keys = [entry.key for entry in entries.values()]
    label, *sizes = row
    cells = {name: number(size, 0, keys) for name, size in zip(_SHAPE, sizes, strict=True)}
    return {"of": text(label, keys), **cells, **{name: _time(entry, times) for name, entry in entries.items()}}


def _time(entry: Entry, times: dict[str, Any]) -> Cell:
    record, v = entry.record, times.get(entry.key)
    value, low, high = (v.value, v.low, v.high) if v else (None, None, None)
    return cell(Point(value, (entry.key,), low, high, record.status, record.reason), significant(value or 1.0))


def _limits(evidence: Evidence, values: pd.DataFrame) -> Iterable[Table]:
    """What fits on a device, and what ended the search."""
    rows = [_limit_row(entry, values) for entry in evidence.current("memory") if is_search(entry)]
    columns = (
        Column("model", "model", numeric=False), Column("machine", "on", numeric=False),
        Column("type", "type", numeric=False), Column("along", "along", numeric=False), Column("largest", "largest"),
        Column("peak", "peak", "MiB"), Column("ended", "ended by", numeric=False),
    )  # fmt: skip
    if rows:
        caption = (
            "Sizes double until one does not fit or takes too long, then the step is halved. Where a limit or the time "
            "ended the search, a larger one may fit."
        )
        yield Table("largest-that-fits", "Largest that fits", columns, tuple(rows), caption)


def is_search(entry: Entry) -> bool:
    """Whether a record of kind `memory` is a search for the largest size, and no cell at one T."""
    return entry.record.options.get("scenario") == "frontier"


def _limit_row(entry: Entry, values: pd.DataFrame) -> dict[str, Cell]:
    record, key = entry.record, entry.key
    along, ending = record.options["along"], record.options.get("frontier", {})
    named = {v.name: v.value for v in values[values["key"] == key].itertuples()}
    largest = named.get(f"largest_{along}")
    fixed = [f"T = {record.frames}" if record.frames else "", f"batch {record.batch}" if record.batch else ""]
    size = number(largest, 0, [key]) if largest is not None else text(record.status, [key], tone="bad")
    return {
        "model": text(entry.row, [key], note=", ".join(filter(None, fixed))),
        "machine": text(entry.machine, [key]),
        "type": text(record.dtype or "", [key]),
        "along": text(_ALONG[along], [key]),
        "largest": size,
        "peak": number(named.get("peak"), 0, [key]),
        "ended": text(ending.get("by", record.status), [key], detail=str(ending.get("reason", record.reason))),
    }


def _checks(evidence: Evidence) -> Iterable[Table]:
    """Checks by what was checked: how many held, and how near the worst came to its bound."""
    groups: dict[tuple[str, ...], list[Entry]] = {}
    for entry in evidence.current("check"):
        r = entry.record
        how = str(r.options.get("backend", r.mode or ""))
        groups.setdefault((entry.machine, r.variant, how, r.dtype or ""), []).append(entry)
    columns = (
        Column("what", "what", numeric=False), Column("how", "back end or mode", numeric=False),
        Column("type", "type", numeric=False), Column("machine", "on", numeric=False), Column("cases", "cases"),
        Column("held", "held"), Column("worst", "worst error over its bound"),
    )  # fmt: skip
    if groups:
        caption = "Errors against float64 (the scan), the CPU (eager models) or the eager model (compiled, captured)."
        rows = tuple(_check_row(*group, entries) for group, entries in sorted(groups.items()))
        yield Table("checks", "Does it compute what it should?", columns, rows, caption)


def _check_row(machine: str, what: str, how: str, dtype: str, entries: list[Entry]) -> dict[str, Cell]:
    keys = [e.key for e in entries]
    shares = [v.value / bound for e in entries for v in e.record.values
              if (bound := e.record.options.get("bounds", {}).get(v.group))]  # fmt: skip
    held = sum(e.record.status == "ok" for e in entries)
    words = {"what": what, "how": how, "type": dtype, "machine": machine}
    return {
        **{name: text(word, keys) for name, word in words.items()},
        "cases": number(len(entries), 0, keys),
        "held": number(held, 0, keys) if held == len(entries) else text(held, keys, tone="bad"),
        "worst": number(max(shares, default=None), 2, keys),
    }


def _values(values: pd.DataFrame, kind: str, name: str) -> dict[str, Any]:
    chosen = values[(values["kind"] == kind) & (values["name"] == name)]
    return {v.key: v for v in chosen.itertuples()}
