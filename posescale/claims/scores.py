"""Testing published accuracies and speeds against records."""

import math
from collections.abc import Mapping

import numpy as np
from scipy import stats

from posescale.claims.matching import Cell, Evidence, cells, place_of, runs
from posescale.claims.schema import QUANTITIES, Claim
from posescale.claims.verdict import Verdict
from posescale.metrics.splits import PUBLISHED
from posescale.records import Record, Value
from posescale.stats import Estimate, t_interval

ALPHA = 0.05  # of the t-test against the published number
SEEDS = 3  # fewer runs cannot speak for a recipe
BETTER_IS_LOWER = {"mm"}


def judge_accuracy(claim: Claim, evidence: Evidence) -> Verdict | None:
    """The verdict on an accuracy; None without a record that speaks about it.

    The published weights must score what was printed, to its rounding. Retrained by the paper's recipe, the mean over
    seeds must not differ from it by a two-sided t-test at 5 %; fewer than three seeds leave the claim untested.
    """
    if claim.component not in evidence.means.components:
        return None
    found = runs(claim, evidence)
    if found.published:
        return _published(claim, found.published[-1])
    if found.retrained:
        return _retrained(claim, found.retrained)
    if found.single_splits:
        return _single_splits(claim, found.single_splits)
    if found.other_recipes:
        others = f"{found.other_recipes} records were trained by another recipe than the paper's, and do not count"
        better = f"{SEEDS} seeds of `posescale train {claim.component} --recipe {claim.dataset}` would"
        return Verdict("untested", f"{others}; {better}")
    return None


def _single_splits(claim: Claim, records: list[Record]) -> Verdict:
    """Splits differ by more than papers do, so that one of them neither confirms nor refutes their mean."""
    total = len(PUBLISHED[str(claim.dataset)])
    splits = [(r.options.get("settings") or {}).get("split", "?") for r in records]
    known = [
        f"{s}: {v.value:.2f} {claim.unit}" for s, r in zip(splits, records, strict=True) if (v := _value(claim, r))
    ]
    which = "one split" if len(set(splits)) == 1 else "single splits"
    found = f"{which} of {total} ({', '.join(known) or 'without this value'}), and the published number is their mean"
    how = f"score all {total} and join the records by `posescale average-splits`"
    return Verdict("untested", f"{found}: {how}", records=tuple(r.id for r in records))


def _published(claim: Claim, record: Record) -> Verdict | None:
    value = _value(claim, record)
    if value is None:
        return None
    low, high = value.interval or (value.value, value.value)
    same = claim.number.rounds_from(value.value)
    how = f"the given weights score {value.value:.2f} {claim.unit}"
    word, end = ("reproduced", "") if same else ("refuted", f", {_difference(claim, value.value)}")
    return Verdict(word, how + end, value.value, low, high, records=(record.id,))


def _retrained(claim: Claim, by_selection: Mapping[str, Mapping[int, Record]]) -> Verdict | None:
    order = [claim.selection, "last", "val-best", *by_selection]
    selection = next(s for s in order if s in by_selection)
    scored = [(v.value, record.id) for record in by_selection[selection].values() if (v := _value(claim, record))]
    if not scored:
        return None
    values, ids = zip(*scored, strict=True)
    ours = t_interval(values)
    how = f"{len(values)} seeds, {selection}: {ours.value:.2f} {claim.unit} {_bounds(ours)}"
    found = {"ours": ours.value, "low": _finite(ours.low), "high": _finite(ours.high), "records": ids}
    if len(values) < SEEDS:
        return Verdict("untested", f"{how}; {SEEDS} seeds at least are needed to speak for the recipe", **found)
    p = _p_value(claim, values)
    if p >= ALPHA:
        return Verdict("reproduced", f"{how}, t-test p = {p:.2g}", **found)
    how += f", t-test p = {p:.2g}, {_difference(claim, ours.value)}"
    if claim.selection == "test-best" != selection and not _better(claim, ours.value):
        reason = f"{how}; but the published epoch was chosen on the test set: only a run chosen alike could refute it"
        return Verdict("untested", reason, **found)
    return Verdict("refuted", how, **found)


def _p_value(claim: Claim, values: tuple[float, ...]) -> float:
    """Two-sided t-test that the mean is a number that rounds to the printed one."""
    mean, (low, high) = float(np.mean(values)), claim.number.rounding
    if low <= mean <= high:
        return 1.0
    spread = float(np.std(values, ddof=1)) / math.sqrt(len(values))
    if spread == 0:
        return 0.0
    distance = min(abs(mean - low), abs(mean - high))
    return float(2 * stats.t.sf(distance / spread, len(values) - 1))


def _value(claim: Claim, record: Record) -> Value | None:
    """The record's value of the claim's quantity, over everything; fractions become percent; None if not finite."""
    name = QUANTITIES[claim.quantity].source
    value = next((v for v in record.values if v.name == name and not v.group), None)
    if value is None or not math.isfinite(value.value):
        return None
    if claim.unit != "%" or value.unit == "%":
        return value
    interval = value.interval and tuple(100 * bound for bound in value.interval)
    return value.model_copy(update={"value": 100 * value.value, "interval": interval})


def _better(claim: Claim, value: float) -> bool:
    return (value < claim.value) == (claim.unit in BETTER_IS_LOWER)


def _difference(claim: Claim, value: float) -> str:
    return f"{abs(value - claim.value):.2f} {'better' if _better(claim, value) else 'worse'} than published"


def _bounds(estimate: Estimate) -> str:
    return f"[{estimate.low:.2f}, {estimate.high:.2f}]" if math.isfinite(estimate.low) else "(one seed, no interval)"


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def judge_speed(claim: Claim, evidence: Evidence) -> Verdict | None:
    """The verdict on a rate or a ratio of times or memories; None without GPU records that speak about it.

    A rate is tested on the GPU that the source names; a ratio on any, between records of one machine and setting, each
    kernel of the rival (fused or naive attention) for itself.
    """
    places = cells(claim, evidence.means)
    if len(places) < (2 if claim.relative_to else 1):
        return None
    ours = _settings(claim, evidence, places[0])
    estimates = [(_rate(value), (record.id,)) for kernels in ours.values() for value, record in kernels.values()]
    if claim.relative_to:
        theirs = _settings(claim, evidence, places[1])
        pairs = [(a, b) for s in ours if s in theirs for a in ours[s].values() for b in theirs[s].values()]
        estimates = [(_ratio(claim, a, b), (mine.id, other.id)) for (a, mine), (b, other) in pairs]
    if not estimates:
        return None
    low, high = claim.number.rounding
    for estimate, group in estimates:
        if estimate.low <= high and low <= estimate.high:
            return Verdict("reproduced", _measured(claim, estimate), *estimate, records=group)
    ids = tuple(dict.fromkeys(id for _, group in estimates for id in group))
    middle = sorted((e for e, _ in estimates), key=lambda e: e.value)[len(estimates) // 2]
    reason = f"{_measured(claim, middle)}; none of {len(estimates)} settings gives {claim.printed}"
    return Verdict("refuted", reason, *middle, records=ids)


def _settings(claim: Claim, evidence: Evidence, place: Cell) -> dict[tuple, dict[str, tuple[Value, Record]]]:
    """A cell's measurements by machine and setting, then by the kernels preferred; the newest of each."""
    name, found = QUANTITIES[claim.quantity].source, {}
    for record in evidence.speeds:
        gpu = str(record.fingerprint["gpu"])
        elsewhere = claim.hardware is not None and claim.hardware.lower() not in gpu.lower()
        if elsewhere or place_of(record, evidence.means) != place:
            continue
        value = next((v for v in record.values if v.name == name and v.value > 0), None)
        if value is not None:
            kernels = found.setdefault((gpu, record.batch, record.dtype, record.mode), {})
            kernels[str(record.options.get("preferences"))] = (value, record)
    return found


def _rate(value: Value) -> Estimate:
    return Estimate(value.value, *(value.interval or (value.value, value.value)))


def _ratio(claim: Claim, ours: Value, theirs: Value) -> Estimate:
    a, b = _rate(ours), _rate(theirs)
    if claim.quantity == "speedup":
        return Estimate(b.value / a.value, b.low / a.high, b.high / a.low)
    return Estimate(*(100 * (1 - r) for r in (a.value / b.value, a.high / b.low, a.low / b.high)))


def _measured(claim: Claim, estimate: Estimate) -> str:
    return f"measured {estimate.value:,.4g} {claim.unit} [{estimate.low:,.4g}, {estimate.high:,.4g}]"
