"""Everything that is not ok: records by status, why each failed, what was refused and which lines were not read."""

from posescale.records import Record
from posescale.report.evidence import Entry, Evidence
from posescale.report.page import Block, Grid, Note, Section, count
from posescale.report.tables import Cell, Column, Table, number, text

MEANING = {
    "ok": "measured, every rule kept",
    "unstable": "measured, but the interval stayed wider than the rule allows; shown and marked",
    "oom": "out of memory",
    "timeout": "did not end within the time cap",
    "unsupported": "this model or back end cannot do it on this machine",
    "crashed": "ended with an error",
    "contaminated": "measured, but something else ran or a control drifted; shown hollow and marked, fitted nowhere",
    "uncounted": "an operator ran that no formula counts; not shown as a number",
    "blocked": "needs something that is not here (data, weights, licence)",
}


def section(evidence: Evidence, refused: dict[str, str]) -> Section:
    """The page's section on failures."""
    bad = [e for e in evidence.entries if e.record.status != "ok"]
    blocks: list[Block] = []
    if evidence.entries:
        blocks.append(Grid(status_table(evidence)))
    if bad:
        blocks.append(Grid(failure_table(bad)))
    if refused:
        blocks.append(Grid(refused_table([e for e in evidence.entries if e.key in refused], refused)))
    if evidence.unreadable:
        blocks.append(Grid(unreadable_table(evidence.unreadable)))
    old = [e.key for e in evidence.entries if e.superseded_by]
    if old:
        words = f"{count(len(old), 'record')} in no table: a newer record measured the same thing on the same machine."
        blocks.append(Note(words, records=tuple(old)))
    troubles = len(bad) + len(refused) + len(evidence.unreadable)
    lead = "A failure is a result and stays visible." if troubles else "Every record is ok."
    return Section("failures", "What is not ok", lead, tuple(blocks))


def status_table(evidence: Evidence) -> Table:
    """Records by status and kind."""
    kinds = sorted({e.record.kind for e in evidence.entries})
    rows = []
    for status in [s for s in MEANING if any(e.record.status == s for e in evidence.entries)]:
        keys = {k: [e.key for e in evidence.entries if e.record.status == status and e.record.kind == k] for k in kinds}
        everyone = [key for found in keys.values() for key in found]
        cells = {k: number(len(found), 0, found) for k, found in keys.items() if found}
        total = {"all": number(len(everyone), 0, everyone)}
        rows.append({"status": text(status, everyone), **cells, **total, "meaning": text(MEANING[status], everyone)})
    columns = [Column("status", "status", numeric=False), *(Column(k, k) for k in kinds), Column("all", "all")]
    return Table("status", "Records by status", (*columns, Column("meaning", "meaning", numeric=False)), tuple(rows))


def failure_table(bad: list[Entry]) -> Table:
    """One row per record that is not ok."""
    columns = (
        Column("model", "model", numeric=False), Column("kind", "kind", numeric=False), Column("frames", "T"),
        Column("where", "under", numeric=False), Column("status", "status", numeric=False),
        Column("reason", "reason", numeric=False),
    )  # fmt: skip
    rows = [
        {
            "model": text(e.row, [e.key]),
            "kind": text(e.record.kind, [e.key]),
            "frames": text("" if e.record.frames is None else e.record.frames, [e.key]),
            "where": text(circumstances(e.record), [e.key]),
            "status": text(e.record.status, [e.key], tone="bad"),
            "reason": text(e.record.reason, [e.key]),
        }
        for e in bad
    ]
    return Table("failures", "Records that are not ok", columns, tuple(rows))


def circumstances(record: Record) -> str:
    """What else was chosen, in a few words."""
    parts = [
        record.study, record.dataset, record.selection, f"seed {record.seed}" if record.seed is not None else "",
        f"batch {record.batch}" if record.batch else "", record.dtype, record.mode, record.device,
    ]  # fmt: skip
    return ", ".join(filter(None, parts))


def refused_table(entries: list[Entry], refused: dict[str, str]) -> Table:
    """Records whose values break the rules of the tables."""
    columns = (Column("model", "model", numeric=False), Column("record", "record", numeric=False),
               Column("reason", "why it is in no table", numeric=False))  # fmt: skip
    rows = [
        {
            "model": text(e.row, [e.key]),
            "record": text(e.key, [e.key]),
            "reason": text(refused[e.key], [e.key], tone="bad"),
        }
        for e in entries
    ]
    return Table("refused", "Records refused", columns, tuple(rows))


def unreadable_table(lines: tuple[str, ...]) -> Table:
    """Lines of record files that hold no record."""
    rows: list[dict[str, Cell]] = [{"line": text(line, tone="bad")} for line in lines]
    columns = (Column("line", "file, line and reason", numeric=False),)
    return Table("unreadable", "Lines that could not be read", columns, tuple(rows))
