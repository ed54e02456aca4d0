"""The ledger: every published number, our value, the verdict and its reason. Computed from records, never typed."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from posescale.claims import counts, scores
from posescale.claims.matching import Cell, Evidence, cells, over_splits, sort
from posescale.claims.means import Means, look
from posescale.claims.schema import UNSETTLED, Claim, load_claims
from posescale.claims.verdict import WORDS, Verdict
from posescale.records import Record

_TESTS = {"count": counts.judge_count, "accuracy": scores.judge_accuracy, "speed": scores.judge_speed}


def judge(claim: Claim, evidence: Evidence) -> Verdict:
    """The verdict on one claim.

    Records decide where there are any; otherwise what is missing does (`blocked`), or that nothing is (`untested`).
    """
    verdict = _TESTS[claim.family](claim, evidence)
    if verdict is not None:
        return _no_refutation_by_reconstruction(claim, verdict, evidence.means)
    lacking = list(_missing(claim, evidence.means))
    if lacking:
        return Verdict("blocked", "; ".join(lacking))
    return Verdict("untested", _next_step(claim, evidence.means))


_BOXES = "whose boxes the number was made with (posetrack_detector_boxes or, 5 to 7 points more, posetrack_gt_boxes)"
_UNSETTLED = {  # what is open, by dataset
    **dict.fromkeys(("posetrack17", "posetrack18", "posetrack21"), _BOXES),
    "mpi_inf_3dhp": "on which skeleton and frames the number was made (3dhp_univ, 3dhp_univ_1024 or 3dhp_univ_mm)",
}


def _no_refutation_by_reconstruction(claim: Claim, verdict: Verdict, means: Means) -> Verdict:
    """A network that could not be checked against the authors' cannot refute their numbers."""
    standings = (means.components.get(name) for name in (claim.component, claim.relative_to) if name)
    why = next((s.reconstruction for s in standings if s is not None and s.reconstruction), "")
    if verdict.word != "refuted" or not why:
        return verdict
    reason = f"no code: ours is a reconstruction ({why}), so it cannot refute this; {verdict.reason}"
    return replace(verdict, word="blocked", reason=reason)


def _missing(claim: Claim, means: Means) -> Iterable[str]:
    """What keeps a claim from being tested here, each with what would help."""
    if claim.component is None:
        yield f"no code: {claim.model} is not among our components; `posescale new-component` starts one"
    for name in filter(None, (claim.component, claim.relative_to)):
        if name not in means.components:
            yield f"no code: component {name} is not here yet; a folder with its card and network would do"
    if claim.family == "accuracy":
        yield from _missing_for_accuracy(claim, means)
    if claim.quantity == "fps":
        machine = claim.hardware or "unnamed: the source does not say on what it was timed, and only its authors can"
        yield f"no machine: latency records on the GPU of the source are needed ({machine})"


def _missing_for_accuracy(claim: Claim, means: Means) -> Iterable[str]:
    if claim.dataset not in means.readers:
        yield f"no data: nothing here reads {claim.dataset}; a folder posescale/data/{claim.dataset} would"
    elif claim.dataset not in means.prepared:
        how = f"`posescale datasets` tells how to get it, then `posescale data prepare {claim.dataset}`"
        yield f"no data: {claim.dataset} is not prepared on this machine; {how}"
    if claim.protocol == UNSETTLED:
        yield f"no protocol: {_UNSETTLED.get(claim.dataset or '', 'which one')} is not settled"
    elif claim.protocol not in means.protocols:
        yield f"no protocol: {claim.protocol} is not defined; an entry in posescale/metrics would do"
    standing = means.components.get(claim.component or "")
    if standing is not None and (claim.overrides or not standing.checkpoint) and not standing.recipes:
        yield f"no weights and no recipe: {claim.component}'s card would have to name either"


def _next_step(claim: Claim, means: Means) -> str:
    frames = f" --frames {claim.frames}" if claim.frames else ""
    if claim.family == "count":
        return f"not counted yet: `posescale claims --paper {claim.paper}` counts it, or `posescale cost` by hand"
    if claim.family == "speed":
        names = ",".join(filter(None, (claim.component, claim.relative_to)))
        return f"no GPU record of both in one setting: `posescale latency {names}{frames} --device cuda`"
    place = cells(claim, means)[0]
    checkpoint = None if place.overrides else means.components[place.variant].checkpoint
    weights = f"the official weights ({checkpoint})" if checkpoint else "weights"
    train = f"{scores.SEEDS} seeds of `posescale train {place.variant} --recipe {claim.dataset}`"
    score = f"`posescale evaluate {place.variant}{frames}`"
    score += " on each split, and `posescale average-splits`" if over_splits(claim) else ""
    return f"only the record is missing: {weights} or {train}, then {score}"


def to_count(claims: Iterable[Claim], evidence: Evidence) -> list[Cell]:
    """The cells whose cost must still be counted before these claims can be judged."""
    wanted = (
        place
        for claim in claims
        if claim.family == "count" and not (claim.relative_to and claim.relative_to not in evidence.means.components)
        if claim.component in evidence.means.components
        for place in cells(claim, evidence.means)
    )
    return [place for place in dict.fromkeys(wanted) if place not in evidence.costs]


def ledger_rows(
    records: Iterable[Record], claims: Sequence[Claim] | None = None, means: Means | None = None
) -> list[dict[str, Any]]:
    """The ledger as flat rows, in the order of the claims.

    Args:
        records: of any kind; those that speak about no claim are ignored.
        claims: all published ones when not given.
        means: what the machine has; looked up on the cards when not given (then no dataset counts as prepared).

    Returns:
        Dictionaries with the same keys: `paper`, `model`, `quantity`, `published`, `ours`, `verdict`, `reason`,
        `unit`, `printed` ... `published` and `ours` are numbers in `unit`; `records` are ids, separated by blanks.
    """
    evidence = sort(records, means or look())
    return [row(claim, judge(claim, evidence)) for claim in (load_claims() if claims is None else claims)]


def row(claim: Claim, verdict: Verdict) -> dict[str, Any]:
    """One claim and its verdict as a flat dictionary."""
    return {
        "id": claim.id,
        "paper": claim.paper,
        "model": claim.model,
        "quantity": claim.quantity,
        "published": claim.value,
        "ours": verdict.ours,
        "verdict": verdict.word,
        "reason": verdict.reason,
        "unit": claim.unit,
        "printed": claim.printed,
        "low": verdict.low,
        "high": verdict.high,
        "component": claim.component,
        "overrides": ", ".join(f"{k}={v}" for k, v in claim.overrides.items()),
        "relative_to": claim.relative_to,
        "frames": claim.frames,
        "dataset": claim.dataset,
        "protocol": claim.protocol,
        "input_2d": claim.input_2d,
        "selection": claim.selection,
        "convention": verdict.convention or claim.convention,
        "evidence": claim.evidence,
        "table": claim.table,
        "source": claim.source,
        "note": claim.note,
        "title": claim.title,
        "venue": claim.venue,
        "year": claim.year,
        "url": claim.url,
        "records": " ".join(verdict.records),
    }


def summary(rows: Sequence[dict[str, Any]]) -> str:
    """How many rows have which verdict, on one line."""
    found = Counter(r["verdict"] for r in rows)
    papers = len({r["paper"] for r in rows})
    head = f"{len(rows)} published numbers, papers: {papers}. "
    return head + ", ".join(f"{found[word]} {word}" for word in WORDS)
