"""Method and provenance: protocols in words, machines, software, commits, repetitions, and how to repeat it all."""

import json
import math
from collections.abc import Iterable

from posescale.metrics.protocols import PROTOCOLS
from posescale.records import Record
from posescale.report.evidence import Entry, Evidence
from posescale.report.page import Block, Grid, Heading, Note, Section, count, listing
from posescale.report.tables import Cell, Column, Table, number, text


def section(evidence: Evidence) -> Section:
    """The page's section on method and provenance."""
    if not evidence.entries:
        return Section("method", "Method and provenance", "There are no records to trace.")
    blocks: list[Block] = [
        Heading("Protocols"),
        *_protocols(evidence),
        Heading("Intervals and conventions"),
        *map(Note, _RULES),
    ]
    blocks += [Heading("Machines and software"), Grid(machine_table(evidence)), Grid(component_table(evidence))]
    blocks += [Heading("Repetition"), Note(*_repetition(evidence))]
    blocks += [Heading("How to repeat this"), *_recipe(evidence)]
    lead = "Every number above links to a record below; a record names its code, its data and its machine."
    return Section("method", "Method and provenance", lead, tuple(blocks))


def _protocols(evidence: Evidence) -> list[Note]:
    used: dict[str, list[str]] = {}
    for entry in evidence.entries:
        if entry.record.protocol:
            used.setdefault(entry.record.protocol, []).append(entry.key)
    notes = []
    for name, keys in sorted(used.items()):
        known = PROTOCOLS.get(name.partition("[")[0])  # what stands in brackets was changed
        words = f"{known.title}. Source: {known.source}." if known else "not among this version's protocols."
        notes.append(Note(f"{name}: {words}", records=tuple(keys)))
    return notes or [Note("No record names a protocol.")]


_RULES = (
    "Accuracy: mean over seeds, Student's 95 % interval. Models are compared by paired bootstrap over sequences.",
    "Latency: p50 with the 95 % interval stored in the record. Growth: least squares in log-log coordinates, Student's "
    "interval on the exponent.",
    "MACs: one multiply and one add; FLOPs are twice that. The convention names what a counter sees.",
)


def software(record: Record) -> tuple[tuple[str, str], ...]:
    """What identifies a record's machine and software: sorted names and values of its fingerprint."""
    flat: dict[str, str] = {}
    for name, value in record.fingerprint.items():
        if isinstance(value, dict):
            flat |= {k: str(v) for k, v in value.items() if v is not None}
        elif value is not None:
            flat[name] = (
                str(value) if isinstance(value, (str, int, float)) else json.dumps(value, sort_keys=True, default=str)
            )
    return tuple(sorted(flat.items()))


_SHOWN = ("cpu", "cores", "memory_gib", "gpu", "system", "python", "torch", "cuda", "commit", "dirty")


def machine_table(evidence: Evidence) -> Table:
    """One row per machine and state of its software."""
    groups: dict[tuple[str, tuple[str, ...]], list[Entry]] = {}
    for entry in evidence.entries:
        found = dict(software(entry.record))
        groups.setdefault((entry.machine, tuple(found.get(name, "") for name in _SHOWN)), []).append(entry)
    names = [name for i, name in enumerate(_SHOWN) if any(state[i] for _, state in groups)]
    columns = [Column(name, name.replace("_gib", " (GiB)"), numeric=False) for name in names]
    rows = []
    for (_, state), entries in sorted(groups.items()):
        keys = [e.key for e in entries]
        cells = {name: _state_cell(name, state[_SHOWN.index(name)], keys) for name in names}
        rows.append(cells | {"records": number(len(keys), 0, keys)})
    return Table("machines", "Machines and software", (*columns, Column("records", "records")), tuple(rows))


def _state_cell(name: str, value: str, keys: list[str]) -> Cell:
    if name == "dirty":
        return text("uncommitted changes" if value == "True" else "clean" if value == "False" else "unknown", keys,
                    tone="" if value == "False" else "bad")  # fmt: skip
    return text(value[:12] if name == "commit" else value, keys)


def component_table(evidence: Evidence) -> Table:
    """Which sources of which model, which data and which weights stand behind the records."""
    groups: dict[tuple[str, str, str], list[str]] = {}
    for entry in evidence.entries:
        r = entry.record
        groups.setdefault((r.component, r.digest, r.data_digest or ""), []).append(entry.key)
    rows = [
        {
            "component": text(c, keys),
            "digest": text(d, keys),
            "data": text(data, keys),
            "count": number(len(keys), 0, keys),
        }
        for (c, d, data), keys in sorted(groups.items())
    ]
    columns = (
        Column("component", "component", numeric=False), Column("digest", "source digest", numeric=False),
        Column("data", "data digest", numeric=False), Column("count", "records"),
    )  # fmt: skip
    return Table("components", "Components and data", columns, tuple(rows), collapsed=True)


def repeated(evidence: Evidence) -> list[tuple[Entry, Entry, bool]]:
    """Timings made twice of one commit and machine: earlier, later, whether the later p50 is in its interval."""
    by_key = {e.key: e for e in evidence.entries}
    pairs = []
    for entry in evidence.entries:
        later = by_key.get(entry.superseded_by)
        if later is None or entry.record.kind != "latency" or not _same_commit(entry.record, later.record):
            continue
        first, second = _p50(entry.record), _p50(later.record)
        if first and second and first[1]:
            pairs.append((entry, later, first[1][0] <= second[0] <= first[1][1]))
    return pairs


def _same_commit(a: Record, b: Record) -> bool:
    return a.fingerprint.get("commit") == b.fingerprint.get("commit")


def _p50(record: Record) -> tuple[float, tuple[float, float] | None] | None:
    found = [v for v in record.values if v.name == "latency" and v.group in {"", "p50"} and math.isfinite(v.value)]
    return (found[0].value, found[0].interval) if found else None


def _repetition(evidence: Evidence) -> tuple[str, str, tuple[str, ...]]:
    pairs = repeated(evidence)
    if not pairs:
        return "No timing was made twice of one commit on one machine, so repeatability is not stated here.", "", ()
    kept = sum(within for _, _, within in pairs)
    words = (
        f"{count(len(pairs), 'timing')} made twice of one commit on one machine: {kept} "
        f"({100 * kept / len(pairs):.0f} %) of the later medians lie in the earlier interval. The rule asks for 95 %."
    )
    tone = "" if kept >= 0.95 * len(pairs) else "warning"
    return words, tone, tuple(key for a, b, _ in pairs for key in (a.key, b.key))


def _recipe(evidence: Evidence) -> list[Note]:
    commits = commits_of(evidence.entries)
    seeds = sorted({e.record.seed for e in evidence.entries if e.record.seed is not None})
    first = (
        f"Check out commit {listing(c[:12] for c in commits)}; `make reproduce` then runs data, training, measuring "
        "and this page."
    )
    second = (
        f"Each record below names its model, T, batch, precision and seed ({listing(seeds)}); `posescale train`, "
        "`evaluate`, `cost` and `latency` take the same names. `posescale report --records FOLDER` rebuilds this page."
    )
    return [Note(first), Note(second)]


def commits_of(entries: Iterable[Entry]) -> list[str]:
    """Commits of some records, sorted."""
    return sorted({str(e.record.fingerprint.get("commit") or "unknown") for e in entries})
