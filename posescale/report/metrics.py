"""The few numbers that `dvc metrics diff` compares between revisions: mean errors and scores, and counted work."""

from collections.abc import Iterable
from statistics import fmean
from typing import Any

from posescale.records import Record
from posescale.report.evidence import Entry, Evidence, row_names

SCORES = ("mpjpe", "p_mpjpe", "n_mpjpe", "mpjve", "pck", "ap")
WORK = "contractions+scan"


def metrics(evidence: Evidence) -> dict[str, Any]:
    """Nested numbers: study, model with T and selection, mean over seeds of each error or score; MACs by T."""
    errors: dict[str, dict[str, dict[str, list[float]]]] = {}
    work: dict[str, dict[str, float]] = {}
    scored = evidence.current("accuracy")
    several = _of_several_protocols(e.record for e in scored)
    names = _names(scored)
    for entry in (*scored, *evidence.current("cost")):
        record = entry.record
        for value in (v for v in record.values if not v.group and record.status == "ok"):
            if record.kind == "accuracy" and value.name in SCORES:
                condition = record.options.get("condition", "as_is").replace("as_is", "")
                cell = " ".join(filter(None, [names[entry.key], f"T={record.frames}", record.selection, condition]))
                study = _study(record) + (f", {record.protocol}" if _study(record) in several else "")
                found = errors.setdefault(study, {}).setdefault(cell, {})
                found.setdefault(value.name, []).append(value.value)
            elif value.name == "macs" and value.convention == WORK:
                work.setdefault(entry.row, {})[f"T={record.frames}"] = value.value
    means = {s: {c: {n: fmean(v) for n, v in e.items()} for c, e in cells.items()} for s, cells in errors.items()}
    return {"accuracy": means, "macs": work}


def _names(scored: Iterable[Entry]) -> dict[str, str]:
    """Row names by key, as within each study: another study's options must not rename a metric."""
    studies: dict[str, list[Entry]] = {}
    for entry in scored:
        studies.setdefault(_study(entry.record), []).append(entry)
    named = (zip(members, row_names([e.record for e in members]), strict=True) for members in studies.values())
    return {entry.key: name for pairs in named for entry, name in pairs}


def _study(record: Record) -> str:
    return record.study or record.dataset or ""


def _of_several_protocols(scored: Iterable[Record]) -> set[str]:
    """Studies scored under more than one protocol: their means are not mixed."""
    protocols: dict[str, set[str | None]] = {}
    for record in scored:
        protocols.setdefault(_study(record), set()).add(record.protocol)
    return {study for study, found in protocols.items() if len(found) > 1}
