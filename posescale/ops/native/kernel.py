"""Calls into the C scan: describe the tensors by pointers and strides, allocate the results, run."""

import ctypes
from typing import NamedTuple

import torch
from torch import Tensor

from posescale.ops.native.build import library

LANES = STEPS = 16  # channels per block and steps per saved state, as in scan.h
FORWARD_WIDTHS, BACKWARD_WIDTHS = (8, 4, 2, 1), (4, 2, 1)  # blocks per task, at most scan.h's MAX_WIDTH
_SHARED = 0.5  # what the blocks of a task share, in units of the work on one block
_BACKWARD_TASKS, _BATCH_GROUPS = 2, 16
_TASKS_PER_THREAD, _TOKENS = 4, 128  # of the forward pass: at least so many tasks a thread, or tokens a task


class _View(ctypes.Structure):
    _fields_ = [("data", ctypes.c_void_p), *((axis, ctypes.c_int64) for axis in "bklc")]


class _Scan(ctypes.Structure):
    _fields_ = [
        *((name, ctypes.c_int64) for name in ("batch", "directions", "length", "channels", "states", "rank")),
        *((name, ctypes.c_int64) for name in ("softplus", "merge", "threads", "width", "batch_groups")),
        *((name, ctypes.c_void_p) for name in ("order", "source", "A", "D", "W", "bias")),
        *((name, _View) for name in ("x", "delta", "low", "B", "C", "y")),
        ("saved", ctypes.c_void_p),
    ]


class _Gradients(ctypes.Structure):
    _fields_ = [
        *((name, _View) for name in ("y", "x", "delta", "low", "B", "C")),
        *((name, ctypes.c_void_p) for name in ("A", "D", "W", "bias", "partial")),
    ]


class Axes(NamedTuple):
    """A tensor and which of its axes are batch, direction, token and channel; None: it has no such axis."""

    tensor: Tensor
    b: int | None
    k: int | None
    l: int | None  # noqa: E741
    c: int | None


class Problem(NamedTuple):
    """One scan over K directions as scan.h sees it; see the head of that file for the equations.

    `delta` (B, K, L, D) or, in its place, `low` (B, K, L, R) with `W` (K, D, R). A (K, D, N), D and bias (K, D).
    """

    x: Axes
    delta: Axes | None
    low: Axes | None
    B: Axes
    C: Axes
    A: Tensor
    D: Tensor | None
    W: Tensor | None
    bias: Tensor | None
    order: Tensor | None
    source: tuple[int, ...]
    softplus: bool
    merge: bool


def states_shape(batch: int, directions: int, length: int, channels: int, states: int) -> tuple[int, ...]:
    """Shape of the states that a forward pass keeps for the backward pass: one per STEPS steps."""
    return batch, directions, -(-length // STEPS), -(-channels // LANES), states, LANES


def forward(problem: Problem, y: Axes, keep: bool) -> Tensor:
    """Write the outputs into `y`; return the saved states, empty unless `keep`."""
    b, k, length, d, n, _ = _sizes(problem)
    saved = y.tensor.new_empty(states_shape(b, k, length, d, n) if keep else 0)
    if b * k * length * d:
        _run("scan_forward", saved.dtype, _describe(problem, y, saved, *_forward_tasks(b, length, d)))
    return saved


def backward(
    problem: Problem, dy: Axes, saved: Tensor, dx: Axes, ddelta: Axes | None, dlow: Axes | None, dB: Axes, dC: Axes
) -> tuple[Tensor | None, ...]:
    """Add to dx, write ddelta, dlow, dB, dC; return the gradients of A, D, W and bias (None where not given)."""
    b, k, length, d, n, r = _sizes(problem)
    parameters = (problem.A, problem.D, problem.W, problem.bias)
    if not b * k * length * d:
        return tuple(None if p is None else torch.zeros_like(p) for p in parameters)
    slices = min(b, _BATCH_GROUPS)
    sums = [None if p is None else p.new_empty(slices, *p.shape) for p in parameters]
    scan = _describe(problem, dy, saved, _backward_width(b, d), slices)
    partial = saved.new_empty(_tasks(1, d, scan.width), b, length, r + 2 * n)
    views = [_view(axes) for axes in (dy, dx, ddelta, dlow, dB, dC)]
    _run("scan_backward", saved.dtype, scan, _Gradients(*views, *map(_pointer, sums), _pointer(partial)))
    return tuple(None if s is None else s.sum(0) if slices > 1 else s[0] for s in sums)


def _sizes(problem: Problem) -> tuple[int, int, int, int, int, int]:
    """B, K, L, D, N, R."""
    k, d, n = problem.A.shape
    x = problem.x
    return x.tensor.shape[x.b], k, x.tensor.shape[x.l], d, n, problem.W.shape[2] if problem.W is not None else 0


def _tasks(batch: int, channels: int, width: int) -> int:
    return batch * -(-channels // (width * LANES))


def _forward_tasks(batch: int, length: int, channels: int) -> tuple[int, int]:
    """Blocks per task and tasks along the batch.

    Of the widths that which keeps the busiest thread shortest: wide tasks share work, narrow ones divide better. Short
    batch entries share a task, and with it the loading of parameters, while every thread still gets some tasks.
    """
    threads = torch.get_num_threads()

    def longest(width: int) -> float:
        return -(-_tasks(batch, channels, width) // threads) * (width + _SHARED)

    width = min(FORWARD_WIDTHS, key=longest)
    wanted = -(-_TASKS_PER_THREAD * threads // _tasks(1, channels, width))
    return width, min(batch, max(wanted, batch * length // _TOKENS))


def _backward_width(batch: int, channels: int) -> int:
    """The widest with tasks for two threads; it fixes the order of sums, so it must not follow their number."""
    return next(w for w in BACKWARD_WIDTHS if w == 1 or _tasks(batch, channels, w) >= _BACKWARD_TASKS)


def _describe(problem: Problem, y: Axes, saved: Tensor, width: int, batch_groups: int) -> _Scan:
    b, k, length, d, n, r = _sizes(problem)
    order = None if problem.order is None else problem.order.to(torch.int32).contiguous()
    parameters = [None if p is None else p.contiguous() for p in (problem.A, problem.D, problem.W, problem.bias)]
    source = (ctypes.c_int64 * k)(*problem.source)
    views = [_view(axes) for axes in (problem.x, problem.delta, problem.low, problem.B, problem.C, y)]
    sizes = (
        b,
        k,
        length,
        d,
        n,
        r,
        problem.softplus,
        problem.merge,
        torch.get_num_threads(),
        width,
        batch_groups,
    )
    saved_at = saved.data_ptr() if saved.numel() else None
    scan = _Scan(*sizes, _pointer(order), ctypes.addressof(source), *map(_pointer, parameters), *views, saved_at)
    scan.alive = (order, source, parameters)  # what the pointers point to must outlive the call
    return scan


def _view(axes: Axes | None) -> _View:
    if axes is None:
        return _View(None, 0, 0, 0, 0)
    strides = axes.tensor.stride()
    return _View(axes.tensor.data_ptr(), *(0 if axis is None else strides[axis] for axis in axes[1:]))


def _pointer(x: Tensor | None) -> int | None:
    return None if x is None else x.data_ptr()


def _run(name: str, dtype: torch.dtype, *arguments: ctypes.Structure) -> None:
    function = getattr(library(dtype == torch.float64, name), f"posescale_{name}")
    status = function(*map(ctypes.byref, arguments))
    if status == 1:
        raise MemoryError(f"{name}: no memory for the kernel's tiles")
    if status == 2:
        raise ValueError("multi_scan: orders has an entry outside 0..L-1; it was changed after it was checked")
