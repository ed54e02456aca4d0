"""The few numbers that `dvc metrics diff` compares between revisions: mean errors and counted work."""

from statistics import fmean
from typing import Any

from posescale.records import Record
from posescale.report.evidence import Evidence

ERRORS = ("mpjpe", "p_mpjpe", "n_mpjpe", "mpjve")
WORK = "contractions+scan"


def metrics(evidence: Evidence) -> dict[str, Any]:
    """Nested numbers: study, model with T and selection, mean over seeds of each error; and MACs by model and T."""
    errors: dict[str, dict[str, dict[str, list[float]]]] = {}
    work: dict[str, dict[str, float]] = {}
    for entry in (*evidence.current("accuracy"), *evidence.current("cost")):
        record = entry.record
        for value in (v for v in record.values if not v.group and record.status == "ok"):
            if record.kind == "accuracy" and value.name in ERRORS:
                cell = " ".join(filter(None, [entry.row, f"T={record.frames}", record.selection]))
                found = errors.setdefault(_study(record, evidence), {}).setdefault(cell, {})
                found.setdefault(value.name, []).append(value.value)
            elif value.name == "macs" and value.convention == WORK:
                work.setdefault(entry.row, {})[f"T={record.frames}"] = value.value
    means = {s: {c: {n: fmean(v) for n, v in e.items()} for c, e in cells.items()} for s, cells in errors.items()}
    return {"accuracy": means, "macs": work}


def _study(record: Record, evidence: Evidence) -> str:
    """Name of a record's study, with its protocol where the study has several: their means are not mixed."""
    name = record.study or record.dataset or ""
    others = {e.record.protocol for e in evidence.current("accuracy") if (e.record.study or e.record.dataset) == name}
    return f"{name}, {record.protocol}" if len(others) > 1 else name
