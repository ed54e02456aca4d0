"""Which back ends there are, which one runs, and which one ran."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from types import ModuleType

import torch

from posescale.errors import UnavailableError
from posescale.ops import loop, mamba, native, reference, triton_scan

BACKENDS: dict[str, ModuleType] = {
    "reference": reference,
    "native": native,
    "torch": loop,
    "triton": triton_scan,
    "mamba_ssm": mamba,
}
OPS = ("selective_scan", "multi_scan")
# `auto` takes the first that is available; the oracle is never chosen.
_PREFERENCE = {"cpu": ("native", "torch"), "cuda": ("triton", "mamba_ssm", "torch")}
_collectors: list[dict[str, str]] = []
_log = logging.getLogger("posescale.ops")


def backends() -> dict[str, dict[str, str]]:
    """For each operator and back end: `available`, or the reason why it is not to be had on this machine.

    Asking compiles the native kernels if the cache has none yet.
    """
    states = {name: module.unavailable() or "available" for name, module in BACKENDS.items()}
    deform = {"native": native.build.unavailable("deform") or "available", "torch": "available"}
    return {op: dict(states) for op in OPS} | {"deform_conv2d": deform}


@contextmanager
def ran() -> Iterator[dict[str, str]]:
    """Collect {operator: back end} of every operator that runs inside; several back ends are joined by `+`.

    >>> with ran() as used:
    ...     model(x)
    >>> used
    {'multi_scan': 'native'}
    """
    used: dict[str, str] = {}
    _collectors.append(used)
    try:
        yield used
    finally:
        _collectors[:] = [other for other in _collectors if other is not used]


def record(op: str, backend: str) -> None:
    """Tell every open `ran()` that `backend` runs `op`."""
    for used in _collectors:
        names = used.get(op, backend).split("+")
        used[op] = "+".join(names if backend in names else [*names, backend])


def resolve(op: str, backend: str, device: torch.device) -> str:
    """The name of the back end that runs `op` on tensors of `device`.

    Raises:
        UnavailableError: the name is unknown, or that back end cannot run here; says why and what else there is.
    """
    if device.type == "meta":  # nothing runs there: shapes only
        return "reference" if backend == "auto" else backend
    if backend == "auto":
        return _choose(op, device.type)
    if backend not in BACKENDS:
        raise UnavailableError(f"{op}: unknown back end {backend!r}; known are auto, {', '.join(BACKENDS)}")
    reason = BACKENDS[backend].unavailable(device)
    if reason:
        raise UnavailableError(
            f"{op}: back end {backend!r} is not available: {reason}; backend='auto' takes one that is"
        )
    return backend


@cache
def _choose(op: str, device_type: str) -> str:
    """The first available back end; a fall-back is logged once, with the reasons."""
    reasons = []
    for name in _PREFERENCE.get(device_type, ("torch",)):
        reason = BACKENDS[name].unavailable(torch.device(device_type))
        if reason is None:
            if reasons:
                _log.warning("%s on %s falls back to %s: %s", op, device_type, name, "; ".join(reasons))
            return name
        reasons.append(f"{name}: {reason}")
    raise UnavailableError(f"{op}: no back end runs on {device_type}: {'; '.join(reasons)}")
