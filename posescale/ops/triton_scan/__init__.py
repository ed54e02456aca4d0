"""The fused back end for GPUs: one launch scans all K directions, without permuted copies.

Short batches cannot fill a GPU with one program per direction and block of channels, so the sequence is then cut into
segments: a light pass finds each segment's end state and its sum of dt, from which every segment knows where it
starts. Directions are merged by atomic additions, or, when `torch.use_deterministic_algorithms(True)` asks for it,
through one buffer per direction and a sum. With TRITON_INTERPRET=1 (set before the first import of triton) the
kernels run on CPU tensors, slowly, for tests.
"""

import os
from functools import cache
from importlib.util import find_spec
from typing import NamedTuple

import torch
from torch import Tensor

LOG2E = 1.4426950408889634
CHUNK = 16
SHORTEST_SEGMENT = 2 * CHUNK


class _Tiling(NamedTuple):
    """Channels of one program, and programs that a GPU holds: where there are fewer, the sequence is cut."""

    lanes: int
    programs: int


# By registers, on an H100. Few sequences fill it with small programs only; the backward pass gains from some waiting.
FORWARD, BACKWARD = (_Tiling(64, 1584), _Tiling(32, 2112)), (_Tiling(32, 1900),)


class _Grid(NamedTuple):
    """Channels of one program, steps of one segment (whole chunks), and programs along both axes."""

    lanes: int
    segment: int
    programs: tuple[int, int]


class _Launch(NamedTuple):
    """One problem, laid out as the kernels expect; see kernels.py for the shapes."""

    x: Tensor
    proj: Tensor
    delta: Tensor | None
    W: Tensor
    bias: Tensor
    A: Tensor
    skip: Tensor
    order: Tensor
    sources: tuple[int, ...]
    softplus: bool
    merge: bool


def unavailable(device: torch.device | None = None) -> str | None:
    """None if this back end runs here (on tensors of `device`, if given), else why not."""
    if not _installed():
        return "triton is not installed"
    if os.environ.get("TRITON_INTERPRET") == "1":
        return None
    if not torch.cuda.is_available():
        return "no CUDA device (TRITON_INTERPRET=1 interprets the kernels on the CPU)"
    if device is not None and device.type != "cuda":
        return f"runs on CUDA tensors, found {device.type}"
    return None


@cache
def _installed() -> bool:
    return find_spec("triton") is not None


def states_shape(batch: int, directions: int, length: int, channels: int, states: int) -> tuple[int, ...]:
    """Shape of the states that a forward pass keeps for the backward pass: one per CHUNK steps."""
    return batch, directions, _ceil(length, CHUNK), states, channels


def multi_forward(u, proj, dt_weight, dt_bias, A, D, orders, sources, merge: bool, keep: bool) -> tuple[Tensor, Tensor]:
    """Y (B, L, D), or (B, K, L, D) unless merge, and the saved states."""
    return _forward(_multi(u, proj, dt_weight, dt_bias, A, D, orders, sources, merge), keep)


def multi_backward(dy, states, u, proj, dt_weight, dt_bias, A, D, orders, sources, merge: bool) -> tuple[Tensor, ...]:
    """Gradients of u, proj, dt_weight, dt_bias, A and D."""
    launch = _multi(u, proj, dt_weight, dt_bias, A, D, orders, sources, merge)
    dx, dproj, _, dW, dbias, dA, dskip = _backward(dy, states, launch)
    return dx, dproj, dW, dbias, dA.flatten(0, 1), dskip.flatten()


def selective_forward(u, delta, A, B, C, D, delta_bias, softplus: bool, keep: bool) -> tuple[Tensor, Tensor]:
    """Y (b, d, l) and the saved states; B and C (b, g, n, l). Goes through token-major copies."""
    y, states = _forward(_selective(u, delta, A, B, C, D, delta_bias, softplus), keep)
    return y.transpose(2, 3).flatten(1, 2).contiguous(), states


def selective_backward(dy, states, u, delta, A, B, C, D, delta_bias, softplus: bool) -> tuple[Tensor | None, ...]:
    """Gradients of u, delta, A, B, C, D and delta_bias (None where not given)."""
    launch = _selective(u, delta, A, B, C, D, delta_bias, softplus)
    dx, dproj, ddelta, _, dbias, dA, dskip = _backward(_token_major(dy, B.shape[1]), states, launch)
    du, ddelta = (x.transpose(2, 3).flatten(1, 2).contiguous() for x in (dx, ddelta))
    dB, dC = (x.contiguous() for x in dproj.permute(0, 2, 3, 1).chunk(2, dim=2))
    dD, dbias = (None if p is None else g.flatten() for p, g in ((D, dskip), (delta_bias, dbias)))
    return du, ddelta, dA.flatten(0, 1), dB, dC, dD, dbias


def _multi(u, proj, dt_weight, dt_bias, A, D, orders, sources, merge: bool) -> _Launch:
    k = len(sources)
    A, D = A.unflatten(0, (k, -1)), D.unflatten(0, (k, -1))
    return _launch(u, proj, None, dt_weight, dt_bias, A, D, orders, tuple(sources), True, merge)


def _selective(u, delta, A, B, C, D, bias, softplus: bool) -> _Launch:
    """The groups of B and C as directions, each with its own source and the tokens in order."""
    groups, length = B.shape[1], u.shape[2]
    D, bias = (u.new_zeros(u.shape[1]) if p is None else p for p in (D, bias))
    A, D, bias = (p.unflatten(0, (groups, -1)) for p in (A, D, bias))
    proj = torch.cat([B, C], dim=2).permute(0, 3, 1, 2)
    order = torch.arange(length, device=u.device).expand(groups, length)
    x, delta = _token_major(u, groups), _token_major(delta, groups)
    return _launch(x, proj, delta, A.new_empty(*D.shape, 0), bias, A, D, order, tuple(range(groups)), softplus, False)


def _launch(x, proj, delta, W, bias, A, skip, order, sources, softplus, merge) -> _Launch:
    tensors = (x, proj, delta, W, bias, A * LOG2E, skip, order.to(torch.int32))
    return _Launch(*(None if t is None else t.contiguous() for t in tensors), sources, softplus, merge)


def _token_major(x: Tensor, groups: int) -> Tensor:
    """(b, d, l) to (b, g, l, d / g)."""
    return x.unflatten(1, (groups, -1)).transpose(2, 3)


def _forward(q: _Launch, keep: bool) -> tuple[Tensor, Tensor]:
    from posescale.ops.triton_scan import kernels

    b, k, length, d, n, _ = _sizes(q)
    states = q.x.new_empty(states_shape(b, k, length, d, n) if keep else 0)
    atomic = q.merge and k > 1 and not torch.are_deterministic_algorithms_enabled()
    slots = 1 if atomic else k
    y = q.x.new_zeros(b, slots, length, d) if atomic else q.x.new_empty(b, slots, length, d)
    if y.numel():
        grid = _grid(q, FORWARD)
        ends, sums = _ends(q, None, grid)
        kernels.forward[grid.programs](
            q.x, q.proj, _given(q.delta, q.x), y, q.order, _sources(q), q.A, q.W, q.bias, q.skip, states, ends, sums,
            b, q.x.shape[1], length, k, d, slots, grid.segment, _ceil(length, CHUNK),
            **_constants(q, grid.lanes), CHUNK=CHUNK, KEEP=keep, ATOMIC=atomic, num_warps=1,
        )  # fmt: skip
    return (y.sum(1) if q.merge else y), states


def _backward(dy: Tensor, states: Tensor, q: _Launch) -> tuple[Tensor, ...]:
    """Gradients of x, proj, delta (None if not given), W, bias, A and skip."""
    from posescale.ops.triton_scan import kernels

    b, k, length, d, n, r = _sizes(q)
    if not b * length * d:
        zeros = [None if t is None else torch.zeros_like(t) for t in (q.x, q.proj, q.delta, q.W, q.bias, q.A, q.skip)]
        return tuple(zeros)
    atomic = not torch.are_deterministic_algorithms_enabled()
    slots, dy = 1 if q.merge else k, dy.contiguous()
    grid = _grid(q, BACKWARD)
    walks, segments = grid.programs
    ends, sums = _ends(q, dy, grid)
    new, per, blocks = q.x.new_empty, (b, segments), walks // (b * k)
    dx = torch.zeros_like(q.x) if atomic else new(b, k, length, d)
    ddelta, rows = (None if q.delta is None else torch.empty_like(q.delta)), new(blocks, *q.proj.shape)
    dA, dW, dbias, dskip = (new(*per, *t.shape) for t in (q.A, q.W, q.bias, q.skip))
    history = new(walks * segments, CHUNK, _power_of_2(n), grid.lanes)
    kernels.backward[grid.programs](
        q.x, q.proj, _given(q.delta, q.x), dy, q.order, _sources(q), q.A, q.W, q.bias, q.skip, states, ends, sums,
        history, dx, _given(ddelta, q.x), rows, dA, dW, dbias, dskip,
        b, q.x.shape[1], dx.shape[1], length, k, d, slots, grid.segment, _ceil(length, CHUNK), segments,
        **_constants(q, grid.lanes), CHUNK=CHUNK, ATOMIC=atomic, num_warps=1,
    )  # fmt: skip
    if not atomic:
        dx = _sum_by_source(dx, q)
    return dx, rows.sum(0), ddelta, *(t.sum((0, 1)) for t in (dW, dbias, dA, dskip))


def _ends(q: _Launch, dy: Tensor | None, grid: _Grid) -> tuple[Tensor, Tensor]:
    """End states, or with dy adjoints, and sums of dt of all segments; unused memory when there is only one."""
    from posescale.ops.triton_scan import kernels

    b, k, length, d, n, _ = _sizes(q)
    segments = grid.programs[1]
    ends, sums = q.x.new_empty(segments, b, k, n, d), q.x.new_empty(segments, b, k, d)
    if segments > 1:
        kernels.segment_ends[grid.programs](
            q.x, q.proj, _given(q.delta, q.x), _given(dy, q.x), q.order, _sources(q), q.A, q.W, q.bias, ends, sums,
            b, q.x.shape[1], length, k, d, 1 if q.merge else k, grid.segment, **_constants(q, grid.lanes),
            REVERSE=dy is not None, num_warps=1,
        )  # fmt: skip
    return ends, sums


def _sizes(q: _Launch) -> tuple[int, int, int, int, int, int]:
    """B, K, L, D, N, R."""
    k, d, n = q.A.shape
    return q.x.shape[0], k, q.x.shape[2], d, n, q.W.shape[2]


def _grid(q: _Launch, tilings: tuple[_Tiling, ...]) -> _Grid:
    """The first tiling that fills the GPU, or the last. By shapes only, so that repetitions add in the same order."""
    b, k, length, d, _, _ = _sizes(q)
    most = max(1, length // SHORTEST_SEGMENT)
    for lanes, programs in tilings:
        walks = _ceil(d, lanes) * b * k
        if walks * most >= programs:
            break
    segments = min(most, max(1, programs // walks))
    segment = _ceil(_ceil(length, segments), CHUNK) * CHUNK
    return _Grid(lanes, segment, (walks, _ceil(length, segment)))


def _ceil(a: int, b: int) -> int:
    return -(-a // b)


def _constants(q: _Launch, lanes: int) -> dict[str, int | bool]:
    *_, n, r = _sizes(q)
    terms = 18 if q.x.dtype == torch.float64 else 7  # of the artanh series, whose argument is at most 1/3
    padded = {"NP": _power_of_2(n), "RP": _power_of_2(r)}
    return {"N": n, "R": r, **padded, "CB": lanes, "LOW_RANK": q.delta is None, "SOFTPLUS": q.softplus, "TERMS": terms}


def _power_of_2(n: int) -> int:
    return 1 << max(0, n - 1).bit_length()


def _sum_by_source(dx: Tensor, q: _Launch) -> Tensor:
    """(B, K, L, D) to (B, S, L, D), always added in the same order."""
    out = torch.zeros_like(q.x)
    for direction, source in enumerate(q.sources):
        out[:, source] += dx[:, direction]
    return out


def _given(x: Tensor | None, otherwise: Tensor) -> Tensor:
    """A pointer is wanted even where none is read."""
    return otherwise if x is None else x


def _sources(q: _Launch) -> Tensor:
    return _source_table(q.sources, q.x.device)


@cache
def _source_table(sources: tuple[int, ...], device: torch.device) -> Tensor:
    return torch.tensor(sources, dtype=torch.int32, device=device)
