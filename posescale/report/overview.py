"""The top of the page: what this is in three sentences, and the best model of each study."""

from collections import Counter
from dataclasses import dataclass

from posescale.report.evidence import Evidence
from posescale.report.page import Note, count, listing
from posescale.report.provenance import commits_of
from posescale.report.studies import Study, better_by, difference, is_control
from posescale.report.style import Look
from posescale.report.tables import Cell, fixed, number


@dataclass(frozen=True)
class Headline:
    """The best model of one study: its error or score, and which models the data do not separate from it."""

    title: str
    model: str
    color: str
    error: Cell
    unit: str
    words: str


def summary(evidence: Evidence) -> list[Note]:
    """Three sentences from the records, and warnings about what weakens them."""
    if not evidence.entries:
        return [Note("No records were found, so there is nothing to show.", "warning")]
    records = [e.record for e in evidence.entries]
    keys = tuple(e.key for e in evidence.entries)
    models = sorted({e.record.variant for e in evidence.entries if not is_control(e)})
    controls = sorted({e.record.variant for e in evidence.entries if is_control(e)})
    datasets = sorted({r.dataset for r in records if r.dataset})
    protocols = sorted({r.protocol for r in records if r.protocol})
    machines = sorted({e.machine for e in evidence.entries})
    statuses = Counter(r.status for r in records)
    ended = listing(
        (f"{n:,} {status}" for status, n in sorted(statuses.items(), key=lambda i: (i[0] != "ok", i[0]))), 9
    )
    data = f" on {listing(datasets)} under protocol {listing(protocols)}" if datasets and protocols else ""
    bounds = f" and {count(len(controls), 'control')}" if controls else ""
    text = (
        f"This page compares {count(len(models), 'model')} ({listing(models)}){bounds}{data}. "
        f"Everything ran on {listing(machines)}, at commit {listing(c[:12] for c in commits_of(evidence.entries))}. "
        f"It is made from {count(len(records), 'record')}: {ended}."
    )
    return [Note(text, records=keys), *_warnings(evidence)]


def _warnings(evidence: Evidence) -> list[Note]:
    dirty = tuple(e.key for e in evidence.entries if e.record.fingerprint.get("dirty") is True)
    unknown = tuple(e.key for e in evidence.entries if e.record.fingerprint.get("commit") in (None, "unknown"))
    commits = commits_of(evidence.entries)
    found = []
    if dirty:
        words = f"Made with uncommitted changes: {len(dirty):,} of {count(len(evidence.entries), 'record')}. "
        found.append(Note(words + "Their commit does not fully name the code.", "warning", dirty))
    if unknown:
        found.append(Note(f"Without a known commit: {count(len(unknown), 'record')}.", "warning", unknown))
    if len(commits) > 1:
        found.append(
            Note(f"The records come from {len(commits)} commits; Method and provenance lists them.", "warning")
        )
    return found


def headlines(studies: list[Study], looks: dict[str, Look]) -> list[Headline]:
    """One per study that has a model with a finite error."""
    return [_headline(study, looks) for study in studies if study.best]


def _headline(study: Study, looks: dict[str, Look]) -> Headline:
    best = study.best
    measure, keys = study.measure, best.scored
    error = number(best.mean.value, measure.digits, keys, best.mean[1:])
    title = f"{measure.title} · {study.conditions.title} · {study.conditions.machine}"
    words = f"{count(len(keys), 'seed')}. {_standing(study)}"
    return Headline(title, best.name, looks[best.look].color, error, measure.unit, words)


def _standing(study: Study) -> str:
    """How the best stands to the others, by sequence."""
    best, others = study.best, [row for row in study.models if row is not study.best and row.scored]
    if not others:
        return "The only model of this study."
    compared = {row.name: found.estimate for row in others if (found := difference(best, row))}
    if not compared:
        second = fixed(others[0].mean.value, study.measure.digits)
        return f"Next: {others[0].name}, {second} {study.measure.unit}. Not compared by sequence."
    tied = [name for name, gap in compared.items() if better_by(study.measure, gap) < 1]
    if tied:
        return f"Not separated by sequence from {listing(tied)}."
    return f"Separated by sequence from {listing(compared)}."
