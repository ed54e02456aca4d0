"""The ledger of published numbers: which ones these records reproduce, explain or refute, and what blocks the rest."""

from collections.abc import Mapping
from typing import Any

from posescale.claims import ledger_rows, look, summary
from posescale.report.evidence import Entry, Evidence
from posescale.report.page import Block, Grid, Section
from posescale.report.tables import Cell, Column, Table, number, significant, text

STUDY = "claims"  # records counted for the ledger alone; they appear in no other section
_TONES = {"reproduced": "best", "refuted": "bad", "blocked": "quiet", "untested": "quiet"}
_JUDGED = ("reproduced", "explained", "refuted")


def section(evidence: Evidence) -> Section:
    """The page's section on published numbers; without tables when the records speak about none of them."""
    keys = {e.record.id: e.key for e in evidence.entries}
    rows = ledger_rows((e.record for e in evidence.entries), means=look())
    judged = [r for r in rows if r["verdict"] in _JUDGED]
    open_ = [r for r in rows if r["verdict"] not in _JUDGED]
    blocks: list[Block] = []
    if judged:
        blocks = [Grid(_judged_table(judged, keys)), Grid(_open_table(open_, keys))]
    lead = "What papers print, what the records here say, and why the two differ. Verdicts are computed, never typed. "
    return Section(
        "claims", "Published numbers", lead + (summary(rows) if judged else "No record speaks of one."), tuple(blocks)
    )


def without_counts(evidence: Evidence) -> Evidence:
    """The evidence without the records that were counted for the ledger alone."""
    return Evidence(tuple(e for e in evidence.entries if not _for_ledger(e)), evidence.unreadable)


def _for_ledger(entry: Entry) -> bool:
    return entry.record.kind == "cost" and entry.record.study == STUDY


def _judged_table(rows: list[dict[str, Any]], keys: Mapping[str, str]) -> Table:
    columns = (
        *_common_columns(), Column("ours", "ours"), Column("verdict", "verdict", numeric=False),
        Column("reason", "reason", numeric=False),
    )  # fmt: skip
    caption = "Ours is the fullest count, scan included; `explained` names the convention that gives the published one."
    return Table("claims", "Judged by records", columns, tuple(_row(r, keys) for r in rows), caption)


def _open_table(rows: list[dict[str, Any]], keys: Mapping[str, str]) -> Table:
    columns = (
        *_common_columns(),
        Column("verdict", "verdict", numeric=False),
        Column("reason", "what it needs", numeric=False),
    )
    return Table("claims-open", "Not judged yet", columns, tuple(_row(r, keys) for r in rows), collapsed=True)


def _common_columns() -> tuple[Column, ...]:
    return (
        Column("paper", "paper", numeric=False), Column("model", "model", numeric=False),
        Column("quantity", "quantity", numeric=False), Column("published", "published", numeric=False),
    )  # fmt: skip


def _row(row: dict[str, Any], keys: Mapping[str, str]) -> dict[str, Cell]:
    records = tuple(keys[i] for i in row["records"].split() if i in keys)
    unit = "" if row["unit"] in ("parameters", "MAC", "FLOP", "x") else row["unit"]
    model = row["model"] + (f", T = {row['frames']}" if row["frames"] else "")
    cells = {
        "paper": text(row["paper"], records, note=row["table"] or ""),
        "model": text(model, records),
        "quantity": text(row["quantity"].replace("_", " "), records),
        "published": text(f"{row['printed']} {unit}".strip(), records),
        "verdict": text(row["verdict"], records, tone=_TONES.get(row["verdict"], "")),
        "reason": text(row["reason"], records),
    }
    return cells | ({"ours": _ours(row, records)} if records else {})


def _ours(row: dict[str, Any], records: tuple[str, ...]) -> Cell:
    value = row["ours"]
    for size, letter in ((1e9, "G"), (1e6, "M")):
        if value is not None and row["unit"] in ("parameters", "MAC", "FLOP") and abs(value) >= size:
            return Cell(f"{value / size:,.2f}{letter}", value, records)
    return number(value, 0 if value is None else min(significant(value), 2), records)
