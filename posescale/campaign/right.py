"""Part 1: does it compute what it should, on this device? Errors against float64, bounds stated, nothing timed."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from posescale import ops
from posescale.campaign.cell import Context
from posescale.cards import ROOT, component, folder_digest
from posescale.measure.contender import Contender
from posescale.measure.subject import Subject
from posescale.measure.worker import failure
from posescale.ops import multi_scan, reference
from posescale.provenance import fingerprint
from posescale.records import Record, Value

# An error is allowed 8 times that of the plain float32 loop, and a floor: of outputs, of gradients.
FLOORS, LOOPS = (1e-6, 4e-6), 8.0
MODEL_BOUND = 1e-4  # of a compiled or captured float32 model's output, relative to the eager one's
NAMES = ("y", "du", "dproj", "ddt_weight", "ddt_bias", "dA", "dD")


def scan_is_right(
    context: Context, backends: Sequence[str], lengths: Sequence[int], dtypes: Sequence[str] = ("float32",),
    batch: int = 2, channels: int = 70, states: int = 16, rank: int = 4, directions: int = 4,
    deterministic: Sequence[bool] = (False,),
) -> Iterator[Record]:  # fmt: skip
    """Output and gradients of `multi_scan`, with random orders, against the float64 loop on the CPU.

    Args:
        context: device and study.
        backends: names of back ends.
        lengths: scan lengths; odd and prime ones are the interesting ones.
        dtypes: of the inputs; the state is float32 in any case.
        batch, channels, states, rank, directions: B, D, N, R, K.
        deterministic: with torch's deterministic algorithms, without them, or both.

    Yields:
        one record per back end, length, type and determinism, with the error and the bound of y and each gradient.
    """
    for length in lengths:
        tensors, orders, sources = scan_problem(batch, length, channels, states, rank, directions)
        for dtype in dtypes:
            rounded = [x.to(getattr(torch, dtype)).double() for x in tensors]
            truth = _results(reference.multi_scan, rounded, orders, sources, True)
            loop = _results(reference.multi_scan, [x.float() for x in rounded], orders, sources, True)
            bounds = _bounds(loop, truth, dtype)
            for backend in backends:
                for exact_order in deterministic:
                    shape = {"length": length, "batch": batch, "channels": channels, "states": states,
                             "directions": directions, "deterministic": exact_order}  # fmt: skip
                    found = _on_device(context.device, rounded, orders, sources, dtype, backend, exact_order)
                    yield _scan_record(context, backend, dtype, shape, found, truth, bounds)


def scan_problem(
    batch: int, length: int, channels: int, states: int, rank: int, directions: int, seed: int = 0
) -> tuple[list[Tensor], Tensor, tuple[int, ...]]:
    """Random float64 inputs of a `multi_scan` over two sources, and a random order for each direction.

    Returns:
        the tensors in the operator's order (u, projections, dt weight and bias, A, D), the orders `(K, L)`, and the
        number of each direction's source.
    """
    g = torch.Generator().manual_seed(seed)

    def randn(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=g, dtype=torch.float64)

    sources = tuple(k % 2 for k in range(directions))
    tensors = [
        randn(batch, max(sources) + 1, length, channels),
        randn(batch, length, directions, rank + 2 * states),
        0.3 * randn(directions, channels, rank),
        0.5 * randn(directions, channels) - 1,
        -4 * torch.rand(directions * channels, states, generator=g, dtype=torch.float64) - 0.01,
        randn(directions * channels),
    ]
    return tensors, torch.stack([torch.randperm(length, generator=g) for _ in sources]), sources


def _results(function: Any, tensors: list[Tensor], *rest: Any, **named: Any) -> list[Tensor]:
    """Output, and the gradients of a fixed random projection of it."""
    leaves = [x.detach().requires_grad_() for x in tensors]
    y = function(*leaves, *rest, **named)
    dy = torch.randn(y.shape, generator=torch.Generator().manual_seed(9), dtype=torch.float64)
    return [y.detach(), *torch.autograd.grad(y, leaves, dy.to(y))]


def _bounds(loop: list[Tensor], truth: list[Tensor], dtype: str) -> list[float]:
    rounding = torch.finfo(getattr(torch, dtype)).eps if dtype in ("bfloat16", "float16") else 0.0  # of the results
    floors = [FLOORS[0], *[FLOORS[1]] * (len(truth) - 1)]
    return [floor + LOOPS * _error(x, t) + rounding for floor, x, t in zip(floors, loop, truth, strict=True)]


def _error(x: Tensor, truth: Tensor) -> float:
    """Largest absolute error over the largest absolute true value."""
    difference = (x.detach().cpu().double() - truth).abs().max()
    return float(difference / truth.abs().max().clamp_min(1e-300))


def _on_device(
    device: str, tensors: list[Tensor], orders: Tensor, sources: tuple[int, ...], dtype: str, backend: str, exact: bool
) -> list[Tensor] | dict[str, str]:
    """Results on the device, or status and reason."""
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(exact, warn_only=True)
    try:
        moved = [x.to(device, getattr(torch, dtype)) for x in tensors]
        with ops.ran() as used:
            found = _results(multi_scan, moved, orders.to(device), sources, backend=backend)
        if used != {"multi_scan": backend}:
            return {"status": "unsupported", "reason": f"{backend} was asked for, {used} ran"}
        return found
    except Exception as error:  # the back end's failure is the record
        return failure(error)
    finally:
        torch.use_deterministic_algorithms(before)


def _scan_record(
    context: Context, backend: str, dtype: str, shape: dict[str, Any], found: list[Tensor] | dict[str, str],
    truth: list[Tensor], bounds: list[float],
) -> Record:  # fmt: skip
    shared = {
        "kind": "check", "component": "ops", "variant": "multi_scan", "study": context.study, "batch": shape["batch"],
        "digest": folder_digest(ROOT / "posescale" / "ops"), "dtype": dtype, "device": context.device, "mode": "eager",
        "options": {"backend": backend, "shape": shape}, "fingerprint": fingerprint(),
    }  # fmt: skip
    if isinstance(found, dict):
        return Record(**shared, **found)
    return _judged(shared | {"backends": {"multi_scan": backend}},
                   {n: _error(x, t) for n, x, t in zip(NAMES, found, truth, strict=True)},
                   dict(zip(NAMES, bounds)))  # fmt: skip


def _judged(shared: dict[str, Any], errors: dict[str, float], bounds: dict[str, float]) -> Record:
    """A record of errors with their bounds; `crashed` when one is out of bounds or not a number."""
    values = [Value(name="error", value=e, unit="", better="lower", group=n) for n, e in errors.items()]
    shared["options"]["bounds"] = bounds
    wrong = [f"{n} is off by {e:.2g} (bound {bounds[n]:.2g})" for n, e in errors.items() if not e <= bounds[n]]
    return Record(**shared, values=values, **({"status": "crashed", "reason": "; ".join(wrong)} if wrong else {}))


def model_is_right(
    context: Context, model: str, frames: int, modes: Sequence[str], batch: int = 2,
    overrides: dict[str, Any] | None = None, dtypes: Sequence[str] = ("float32",),
) -> Iterator[Record]:  # fmt: skip
    """Compiled and captured models against the eager one on the device, and that one against the CPU.

    Args:
        context: device and study.
        model: id.
        frames, batch: T and B.
        modes: of `eager` (compared with the CPU), `compile`, `graph` (compared with eager).
        overrides: constructor arguments.
        dtypes: float32 is held to MODEL_BOUND; others are held to the timing band.

    Yields:
        one record per mode and type.
    """
    found = component(model)
    subject = Subject(model, frames, batch, overrides or {})
    for dtype in dtypes:
        for mode in modes:
            shared = {
                "kind": "check", "component": found.card.id, "variant": model, "digest": found.digest,
                "study": context.study, "frames": frames, "batch": batch, "dtype": dtype, "mode": mode,
                "device": context.device, "options": {"overrides": overrides} if overrides else {},
                "fingerprint": fingerprint(),
            }  # fmt: skip
            try:
                error, bound, backends = _model_error(subject, context.device, dtype, mode)
            except Exception as failed:  # the mode's failure is the record
                yield Record(**shared, **failure(failed))
            else:
                yield _judged(shared | {"backends": backends}, {"output": error}, {"output": bound})


def _model_error(subject: Subject, device: str, dtype: str, mode: str) -> tuple[float, float, dict[str, str]]:
    """Relative distance of new outputs from the truth, its bound, and the back ends that ran."""
    from posescale.measure.contender import BANDS, precision

    contender = Contender(subject, device, dtype, mode, seed=0)
    truth, place = contender.truth, device
    if mode == "eager":
        truth, place = subject.truth(subject.build(), "cpu"), "cpu"
    worst = 0.0
    for inputs in (contender.pool[0], contender.pool[1]):  # a capture that ignores its input shows on the second
        with torch.inference_mode(), precision(dtype), ops.ran() as used:
            found = subject.compared(contender.run(*inputs))[0].clone()
        with torch.inference_mode(), precision("float32"):
            expected = subject.compared(truth(*(x.float().to(place) for x in inputs)))[0].double().cpu()
        worst = max(worst, float((found.double().cpu() - expected).norm() / expected.norm().clamp_min(1e-30)))
    return worst, MODEL_BOUND if dtype == "float32" else BANDS[dtype], contender.backends | used
