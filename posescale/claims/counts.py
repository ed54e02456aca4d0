"""Testing a published count: which way of counting gives it?"""

from collections.abc import Iterator
from dataclasses import dataclass

from posescale.claims.formula import evaluate
from posescale.claims.matching import Evidence, cells
from posescale.claims.schema import QUANTITIES, Claim
from posescale.claims.verdict import Verdict
from posescale.records import Record

Figures = dict[tuple[str, str], float]  # (name, convention) -> value, of one record
# Counts that leave nothing out, the fullest first; `ours` is the first of them.
OWN = {
    "parameters": [("parameters", "unique")],
    "macs": [("macs", "contractions+scan"), ("macs", "contractions")],
    "flops": [("flops", "contractions+scan"), ("flops", "contractions"), ("flops", "total")],
}
# Other rulers, as (value, factor): papers print MACs as FLOPs and the reverse.
OTHER = {
    "parameters": [(("parameters", "thop"), 1), (("parameters_trainable", "unique"), 1)],
    "macs": [(("macs", "thop"), 1), (("macs", "fvcore"), 1), (("flops", "contractions"), 1)],
    "flops": [
        (("macs", "thop"), 1), (("macs", "fvcore"), 1), (("macs", "contractions"), 1),
        (("macs", "thop"), 2), (("macs", "fvcore"), 2),
    ],
}  # fmt: skip
WORDS = {
    ("parameters", "unique"): "all parameters",
    ("parameters", "thop"): "thop",
    ("parameters_trainable", "unique"): "trainable parameters only",
    ("macs", "contractions"): "all contractions",
    ("macs", "contractions+scan"): "contractions and scan",
    ("macs", "thop"): "thop",
    ("macs", "fvcore"): "fvcore",
    ("flops", "contractions"): "all contractions, 2 per multiply-add",
    ("flops", "contractions+scan"): "contractions and scan, 2 per multiply-add",
    ("flops", "total"): "everything, elementwise work included",
}


@dataclass(frozen=True)
class Way:
    """One way of counting: its name, the number it gives, and whether it leaves nothing out."""

    words: str
    value: float
    own: bool


def judge_count(claim: Claim, evidence: Evidence) -> Verdict | None:
    """The verdict on a count whose records exist; None when one is still to be made.

    `reproduced` when a full count rounds to the printed digits, `explained` when another way of counting does (or one
    that was cut off instead of rounded), `refuted` when none does, `blocked` when the counter gave up.
    """
    found = [evidence.costs.get(place) for place in cells(claim, evidence.means)]
    if not found or None in found or len(found) < (2 if claim.relative_to else 1):
        return None
    ids = tuple(record.id for record in found)
    failed = next((record for record in found if record.status != "ok"), None)
    if failed is not None:
        why = f"{failed.variant} could not be counted: {failed.status}, {failed.reason}"
        return Verdict("blocked", why, records=ids)
    ways = _distinct([*_ways(claim, *map(_figures, found)), *_by_hand(claim, evidence)])
    if not any(way.own for way in ways):
        return Verdict("blocked", f"{found[0].variant} has a record, but no count of {claim.quantity}", records=ids)
    return _judge(claim, ways, found[0], ids)


def _judge(claim: Claim, ways: list[Way], record: Record, ids: tuple[str, ...]) -> Verdict:
    own, others = [way for way in ways if way.own], [way for way in ways if not way.own]
    ours, shown = own[0].value, _list(claim, own)
    for fits, how in ((claim.number.rounds_from, ""), (claim.number.cut_from, ", cut off instead of rounded")):
        way = next((way for way in ways if fits(way.value)), None)
        if way is None:
            continue
        if way.own and not how:
            return Verdict("reproduced", _list(claim, [way]), way.value, convention=way.words, records=ids)
        why = f"{claim.printed} = {_list(claim, [way])}{how}{_unseen(claim, way, record)}; {shown}"
        return Verdict("explained", why, ours, convention=way.words, records=ids)
    why = f"no way of counting gives {claim.printed}: {_list(claim, own + others)}"
    return Verdict("refuted", why, ours, ours, ours, records=ids)


def _figures(record: Record) -> Figures:
    return {(v.name, v.convention): v.value for v in record.values if not v.group}


def _ways(claim: Claim, figures: Figures, reference: Figures | None = None) -> Iterator[Way]:
    quantity = QUANTITIES[claim.quantity]
    plain = [(key, 1, True) for key in OWN[quantity.source]] + [(*way, False) for way in OTHER[quantity.source]]
    rulers = [(key, factor, own) for key, factor, own in plain if key in figures]
    for key, factor, own in rulers:
        words = WORDS[key] + (" (multiply-adds, twice)" if factor == 2 else "")
        value = factor * figures[key]
        if reference is not None:
            if not reference.get(key):
                continue
            value /= factor * reference[key]
            value = 100 * (1 - value if quantity.saving else value)
        yield Way(words, value / (claim.frames or 1) if quantity.per_frame else value, own)
    if quantity.per_frame:
        for key, factor, _ in rulers:
            yield Way(f"the whole clip of {claim.frames} frames by {WORDS[key]}", factor * figures[key], False)


def _by_hand(claim: Claim, evidence: Evidence) -> Iterator[Way]:
    """The author's own way of counting, where the claim states it as a formula."""
    if claim.formula:
        names = {**evidence.means.components[claim.component].parameters, **claim.overrides, "T": claim.frames}
        yield Way(claim.convention, evaluate(claim.formula, names), False)


def _distinct(ways: list[Way]) -> list[Way]:
    """Each number once (a model without a scan has one full count, not two); no full count by another name."""
    own = {way.value: way for way in ways if way.own}
    return [*own.values(), *{way.value: way for way in ways if way.value not in own}.values()]


def _list(claim: Claim, ways: list[Way]) -> str:
    return "; ".join(f"{way.words} {_amount(claim, way.value)}" for way in ways)


def _amount(claim: Claim, value: float) -> str:
    """Parameters in full, everything else as it was printed with two digits more."""
    return f"{value:,.0f}" if claim.unit == "parameters" else claim.number.like(value, more=2)


def _unseen(claim: Claim, way: Way, record: Record) -> str:
    """What thop does not see in this model, from the model's own record."""
    if not way.words.endswith("thop"):
        return ""
    figures, calls = _figures(record), record.options.get("calls") or {}
    if QUANTITIES[claim.quantity].source == "parameters":
        missing = figures["parameters", "unique"] - figures["parameters", "thop"]
        parts = [f"{missing:,.0f} parameters outside leaf modules: tables, scales, state-space matrices"] * (
            missing > 0
        )
    else:
        parts = ["the scan and its projections"] if figures.get(("scan_flops", "9N+1")) else []
        parts += [] if parts or not _products(calls) else ["attention and other products of two activations"]
    return f" (skips {' and '.join(parts)})" if parts else ""


def _products(calls: dict[str, int]) -> bool:
    return any(name in ("bmm", "baddbmm") or "dot_product_attention" in name for name in calls)
