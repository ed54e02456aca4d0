"""Counted cost of a model: parameters, arithmetic by convention, bytes. Three routes must agree, or no count is stated.

Conventions of `macs` and `flops`:

- `contractions`: all matrix products and convolutions, attention's and the scans' low-rank projections included.
- `contractions+scan`: and the selective scan. FLOPs: 9 N + 1 per token, channel and direction on top. MACs: half of the
  9 N, and the skip product as one MAC.
- `total` (FLOPs only): and everything elementwise, by the prices in `posescale.measure.operators`.
- `thop`, `fvcore`: what these counters say about the same model, for comparison with published numbers.
"""

from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn

from posescale import provenance
from posescale.errors import PosescaleError
from posescale.measure import old_rulers
from posescale.measure.closed_form import closed_form
from posescale.measure.counting import Count, count
from posescale.measure.instrumented import counted_scan_flops
from posescale.measure.operators import FREE
from posescale.measure.parameters import Parameters, count_parameters
from posescale.measure.subject import Subject, refusal
from posescale.measure.traffic import compulsory_traffic, saved_for_backward
from posescale.records import Record, Value

FVCORE_LIMIT = 100_000_000_000  # MACs up to which fvcore may run a model for real, where `meta` does not serve it


def cost(name: str, frames: int, batch: int = 1, study: str = "", label: str = "", **overrides: Any) -> Record:
    """Count one forward pass of a model; nothing is timed.

    The dispatch counter, the card's closed form and an instrumented run of the scan's recurrence must agree.

    Args:
        name: model id.
        frames: T.
        batch: clips.
        study, label: written into the record.
        **overrides: constructor arguments, such as `height=384`.

    Returns:
        A `cost` record. Its status is `uncounted` when an operator ran that no table prices (named in the reason),
        `unsupported` when the model refuses the shape, `crashed` when routes disagree (both numbers in the reason) or
        the model fails.

    Raises:
        UnavailableError: no model has this name.
    """
    subject = Subject(name, frames, batch, overrides)
    found = subject.component
    record = {
        "kind": "cost",
        "component": found.card.id,
        "variant": name,
        "label": label,
        "digest": found.digest,
        "study": study,
        "frames": frames,
        "batch": batch,
        "dtype": "float32",
        "options": {"overrides": dict(overrides)} if overrides else {},
        "fingerprint": provenance.fingerprint(),
    }
    if found.card.task == "video":
        record["resolution"] = _resolution(subject)
    try:
        counted = _measure(subject)
    except Exception as error:  # whatever a model raises becomes its record; the pipeline goes on
        return Record(**record, **_failure(error))
    record["options"] |= counted.pop("options")
    return Record(**record, **counted)


def _failure(error: Exception) -> dict[str, str]:
    if isinstance(error, Disagreement):
        return {"status": "crashed", "reason": str(error)}
    if (words := refusal(error)) is not None:
        return {"status": "unsupported", "reason": words}
    return {"status": "crashed", "reason": f"{type(error).__name__}: {error}"}


def _resolution(subject: Subject) -> tuple[int, int] | None:
    try:
        return subject.shape()[-2:]
    except Exception:  # reported by the measurement itself
        return None


class Disagreement(PosescaleError):
    """Two ways of counting the same thing gave different numbers."""


def _measure(subject: Subject) -> dict[str, Any]:
    model, example = subject.build(), subject.draw(0)
    parameters = count_parameters(model)
    light, shape = model.to("meta"), example.to("meta")
    try:
        counted = count(light, shape)
        options = {"counted_on": "meta"}
    except (
        Exception
    ) as error:  # an operator without a shape rule: run for real, which also gives the model's own refusal
        options = {"counted_on": "cpu", "not_on_meta": f"{type(error).__name__}: {error}"}
        light, shape = subject.build(), example
        counted = count(light, shape)
    options["calls"] = {name: calls for name, calls in sorted(counted.calls.items()) if name not in FREE}
    if counted.uncounted:
        names = ", ".join(f"{name} ({calls} calls)" for name, calls in sorted(counted.uncounted.items()))
        values = list(_parameter_values(parameters))
        reason = f"nothing prices {names}; give it a formula in posescale.measure, or list it as free"
        return {"values": values, "status": "uncounted", "reason": reason, "options": options}
    options["routes"] = _agree(subject, counted, parameters)
    values = [*_parameter_values(parameters), *_arithmetic(counted), *_bytes(light, shape, counted)]
    published, notes = _old_rulers(subject, light, shape, counted)
    return {"values": [*values, *published], "options": options | notes}


def _agree(subject: Subject, counted: Count, parameters: Parameters) -> list[str]:
    """Compare the routes; returns their names.

    Raises:
        Disagreement: with both numbers.
    """
    routes = ["dispatch"]
    if counted.scan:
        routes.append("instrumented")
        _compare_recurrence()
    if subject.component.card.cost is None:
        return routes
    numeric = subject.arguments()
    formula = closed_form(subject.component, subject.frames, subject.batch, numeric)
    ours = {"contractions": counted.contractions, "scan": counted.scan, "parameters": parameters.total}
    for quantity, expected in formula.items():
        if ours[quantity] != expected:
            raise Disagreement(
                f"{subject.name} at T={subject.frames}: {quantity} by dispatch {ours[quantity]:,}, by the closed form "
                f"on its card {expected:,}; one of the two is wrong, so no count is stated"
            )
    return [*routes, "closed form"]


def _compare_recurrence(length: int = 3, channels: int = 2) -> None:
    for states in (1, 4, 16):
        ran, formula = counted_scan_flops(length, channels, states), length * channels * (9 * states + 1)
        if ran != formula:
            raise Disagreement(f"the scan's recurrence makes {ran} operations at N={states}, the convention {formula}")


def _parameter_values(parameters: Parameters) -> Iterator[Value]:
    yield _value("parameters", parameters.total, "parameters", "unique")
    for name in ("trainable", "frozen", "bare"):
        yield _value(f"parameters_{name}", getattr(parameters, name), "parameters", "unique", "none")
    yield _value("buffers", parameters.buffers, "elements", "unique", "none")


def _arithmetic(counted: Count) -> Iterator[Value]:
    yield _value("macs", counted.contractions, "MAC", "contractions")
    yield _value("flops", 2 * counted.contractions, "FLOP", "contractions")
    yield _value("macs", counted.mac_equivalent, "MAC", "contractions+scan")
    yield _value("flops", counted.flops_with_scan, "FLOP", "contractions+scan")
    yield _value("scan_flops", counted.scan, "FLOP", "9N+1", "none")
    yield _value("flops", counted.total, "FLOP", "total")


def _bytes(model: nn.Module, example: Tensor, counted: Count) -> Iterator[Value]:
    traffic = compulsory_traffic(model, example)
    yield _value("bytes", traffic.total, "B", "compulsory")
    yield _value("intensity", counted.flops_with_scan / traffic.total, "FLOP/B", "compulsory", "none")
    yield _value("activation_bytes", saved_for_backward(model, example), "B", "saved for backward")


def _old_rulers(
    subject: Subject, model: nn.Module, example: Tensor, counted: Count
) -> tuple[list[Value], dict[str, str]]:
    values, notes = [], {}
    try:
        by_thop = old_rulers.thop(model, example)
        values += [
            _value("parameters", by_thop.parameters, "parameters", "thop"),
            _value("macs", by_thop.macs, "MAC", "thop"),
        ]
    except Exception as error:  # an old counter's failure is its own
        notes["thop"] = f"failed: {type(error).__name__}: {error}"
    try:
        by_fvcore = _by_fvcore(subject, model, example, counted)
        values.append(_value("macs", by_fvcore.macs, "MAC", "fvcore"))
        notes["fvcore_left_out"] = ", ".join(by_fvcore.left_out)
    except Exception as error:
        notes["fvcore"] = f"failed: {type(error).__name__}: {error}"
    return values, notes


def _by_fvcore(subject: Subject, model: nn.Module, example: Tensor, counted: Count) -> old_rulers.Ruler:
    try:
        return old_rulers.fvcore(model, example)
    except Exception:  # it traces, and some operators cannot be traced on meta
        if counted.contractions > FVCORE_LIMIT:
            limit = f"{FVCORE_LIMIT:,} MACs"
            raise PosescaleError(f"it must run the model for real, which is not done above {limit}") from None
        return old_rulers.fvcore(subject.build(), subject.draw(0))


def _value(name: str, value: float, unit: str, convention: str, better: str = "lower") -> Value:
    return Value(name=name, value=value, unit=unit, convention=convention, better=better)


def reason_for_difference(record: Record) -> str:
    """One sentence on why the old counters' figures differ from ours; empty where they do not."""
    figures = {(v.name, v.convention): v.value for v in record.values}
    ours, theirs = figures.get(("macs", "contractions+scan")), figures.get(("macs", "thop"))
    if ours is None or theirs is None:
        return ""
    missing = figures["parameters", "unique"] - figures["parameters", "thop"]
    parts = [f"{missing:,.0f} parameters that belong to no known leaf module"] if missing else []
    parts += ["products of tensors outside Linear and convolution layers"] if _has_products(record) else []
    parts += ["the selective scan with its projections"] if figures["scan_flops", "9N+1"] else []
    if not parts:
        return ""
    return (
        f"thop does not see {_listed(parts)}, and adds 4 per element of a norm layer: "
        f"all products and scans together are {ours / theirs:.2f} times its MACs."
    )


def _has_products(record: Record) -> bool:
    calls = record.options.get("calls", {})
    return any(name in ("bmm", "baddbmm") or "dot_product_attention" in name for name in calls)


def _listed(parts: list[str]) -> str:
    return parts[0] if len(parts) == 1 else ", ".join(parts[:-1]) + " and " + parts[-1]
