"""The CPU back end: C99 compiled at first use (build.py), called through ctypes; here the scan (kernel.py).

Forward and backward never make a permuted or transposed copy and keep one state per 16 steps for the backward pass.
Results do not depend on the number of threads, which is torch's.
"""

import torch
from torch import Tensor

from posescale.ops.native import kernel
from posescale.ops.native.build import unavailable as _no_library
from posescale.ops.native.kernel import Axes, Problem

states_shape = kernel.states_shape


def unavailable(device: torch.device | None = None) -> str | None:
    """None if this back end runs here (on tensors of `device`, if given), else why not."""
    if device is not None and device.type != "cpu":
        return f"runs on CPU tensors, found {device.type}"
    return _no_library()


def selective_forward(u, delta, A, B, C, D, delta_bias, softplus: bool, keep: bool) -> tuple[Tensor, Tensor]:
    """Y (b, d, l) and the saved states; B and C (b, g, n, l)."""
    y = torch.empty_like(u, memory_format=torch.contiguous_format)
    problem, groups = _selective(u, delta, A, B, C, D, delta_bias, softplus), B.shape[1]
    return y, kernel.forward(problem, _grouped(y, groups), keep)


def selective_backward(dy, states, u, delta, A, B, C, D, delta_bias, softplus: bool) -> tuple[Tensor | None, ...]:
    """Gradients of u, delta, A, B, C, D and delta_bias (None where not given)."""
    problem, groups = _selective(u, delta, A, B, C, D, delta_bias, softplus), B.shape[1]
    du, ddelta = torch.zeros(u.shape, dtype=u.dtype), torch.empty(u.shape, dtype=u.dtype)
    dB, dC = torch.empty(B.shape, dtype=B.dtype), torch.empty(C.shape, dtype=C.dtype)
    views = [_grouped(x, groups) for x in (dy, du, ddelta)]
    dA, dD, _, dbias = kernel.backward(problem, views[0], states, *views[1:], None, _rows(dB), _rows(dC))
    flat = [None if x is None else x.flatten(0, 1) for x in (dA, dD, dbias)]
    return du, ddelta, flat[0], dB, dC, flat[1], flat[2]


def multi_forward(u, proj, dt_weight, dt_bias, A, D, orders, sources, merge: bool, keep: bool) -> tuple[Tensor, Tensor]:
    """Y (B, L, D), or (B, K, L, D) unless merge, and the saved states."""
    b, _, length, d = u.shape
    y = u.new_empty((b, length, d) if merge else (b, len(sources), length, d))
    problem = _multi(u, proj, dt_weight, dt_bias, A, D, orders, sources, merge)
    return y, kernel.forward(problem, _outputs(y, merge), keep)


def multi_backward(dy, states, u, proj, dt_weight, dt_bias, A, D, orders, sources, merge: bool) -> tuple[Tensor, ...]:
    """Gradients of u, proj, dt_weight, dt_bias, A and D."""
    problem = _multi(u, proj, dt_weight, dt_bias, A, D, orders, sources, merge)
    du, dproj = torch.zeros(u.shape, dtype=u.dtype), torch.empty(proj.shape, dtype=proj.dtype)
    low, B, C = _split(dproj, dt_weight.shape[2], A.shape[1])
    dA, dD, dW, dbias = kernel.backward(problem, _outputs(dy, merge), states, Axes(du, 0, 1, 2, 3), None, low, B, C)
    return du, dproj, dW, dbias, dA.flatten(0, 1), dD.flatten(0, 1)


def _selective(u, delta, A, B, C, D, bias, softplus: bool) -> Problem:
    """The groups of B and C are directions that all visit the tokens in their order."""
    groups = B.shape[1]
    A, D, bias = (None if p is None else p.unflatten(0, (groups, -1)) for p in (A, D, bias))
    x, delta, B, C = _grouped(u, groups), _grouped(delta, groups), _rows(B), _rows(C)
    return Problem(x, delta, None, B, C, A, D, None, bias, None, tuple(range(groups)), softplus, merge=False)


def _multi(u, proj, dt_weight, dt_bias, A, D, orders, sources, merge: bool) -> Problem:
    k, _, r = dt_weight.shape
    A, D = A.unflatten(0, (k, -1)), D.unflatten(0, (k, -1))
    low, B, C = _split(proj, r, A.shape[2])
    x = Axes(u, 0, 1, 2, 3)
    return Problem(x, None, low, B, C, A, D, dt_weight, dt_bias, orders, tuple(sources), softplus=True, merge=merge)


def _grouped(x: Tensor, groups: int) -> Axes:
    """(b, d, l) with the channels in groups."""
    return Axes(x.unflatten(1, (groups, -1)), b=0, k=1, l=3, c=2)


def _rows(x: Tensor) -> Axes:
    """(b, g, n, l)."""
    return Axes(x, b=0, k=1, l=3, c=2)


def _split(proj: Tensor, r: int, n: int) -> list[Axes]:
    """The dt, B and C parts of (B, L, K, R + 2N)."""
    return [Axes(part, b=0, k=2, l=1, c=3) for part in proj.split([r, n, n], dim=3)]


def _outputs(y: Tensor, merge: bool) -> Axes:
    """(B, L, D) shared by the directions, or (B, K, L, D)."""
    return Axes(y, b=0, k=None, l=1, c=2) if merge else Axes(y, b=0, k=1, l=2, c=3)
