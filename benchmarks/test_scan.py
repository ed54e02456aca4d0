"""Speed and peak memory of `multi_scan`, as ratios measured in one run: `pytest benchmarks/test_scan.py`.

Implementations take turns (side_by_side.py); every ratio is time divided by native's, with a 95 % interval. Nothing is
asserted about speed: the goals stand beside the ratios in the JSON (`--benchmark-json FILE`). In parts: `-k "S and
T=27"`. POSESCALE_MARCH=x86-64-v3 measures an AVX2 build; POSESCALE_BENCH=small takes the short shapes only.
"""

import os
from functools import partial
from typing import NamedTuple

import numpy as np
import pytest
import torch
from floor import floor_seconds
from side_by_side import in_native_calls, milliseconds, note, peak_mib, ratios, take_turns

from posescale.ops import multi_scan, reference
from posescale.ops.sequences import from_tokens, to_tokens


class Shape(NamedTuple):
    """K directions over B rows of L tokens; D channels, N states, rank R."""

    B: int
    L: int
    D: int = 128
    N: int = 16
    K: int = 4
    R: int = 4

    @property
    def states(self) -> int:
        """State updates of one pass."""
        return self.B * self.L * self.K * self.D * self.N


SHAPES = {
    "S T=27 joint": Shape(1, 459),
    "S T=81 joint": Shape(1, 1377),
    "S T=243 joint": Shape(1, 4131),
    "S T=27 joint, batch 16": Shape(16, 459),
    "S rows 27 x 17": Shape(27, 17),
    "S rows 243 x 17": Shape(243, 17),
    "S rows 17 x 243": Shape(17, 243),
    "B T=81 joint": Shape(1, 1377, D=256, R=8),
    "S T=243 joint, N=1": Shape(1, 4131, N=1),
    "GLS K=6 L=15360 N=1": Shape(1, 15360, D=192, N=1, K=6, R=6),
}
if os.environ.get("POSESCALE_BENCH") == "small":
    SHAPES = {name: shape for name, shape in SHAPES.items() if shape.B * shape.L <= 459}
LARGE = 40_000_000  # states above which the back propagation of rivals that store them all is left out
MODES = ("forward", "forward+backward")
# Ratios aimed at on one core with N = 16.
GOALS = {
    "forward": "materialised >= 15 (>= 50 at L >= 1377 with AVX-512)",
    "forward+backward": "torch loop >= 8; materialised >= 30 at L = 17, >= 300 at L >= 243",
}


def two_level(u, proj, dt_weight, dt_bias, A, D, orders, sources):
    """A parallel scan in pure torch: about sqrt(L) chunks advance together, then their ends are carried along."""
    q = from_tokens(u, proj, dt_weight, dt_bias, A, orders, sources)
    length = len(q.x)
    steps = max(1, int(length**0.5))
    chunks = -(-length // steps)

    def fold(x):  # (L, ...) to (steps, chunks, ...); padded steps have dt = 0, which leaves the state alone
        padding = x.new_zeros(steps * chunks - length, *x.shape[1:])
        return torch.cat([x, padding]).unflatten(0, (chunks, steps)).transpose(0, 1)

    x, delta, B, C = map(fold, (q.x, q.delta, q.B, q.C))
    decay, drive = torch.exp(delta[..., None] * q.A), (delta * x)[..., None] * B[..., None, :]
    local = [drive[0]]
    for a, b in zip(decay[1:].unbind(), drive[1:].unbind()):
        local.append(torch.addcmul(b, a, local[-1]))
    local, since = torch.stack(local), torch.exp(delta.cumsum(0)[..., None] * q.A)
    carry = [torch.zeros_like(local[0, 0])]
    for a, end in zip(since[-1].unbind(), local[-1].unbind()):
        carry.append(torch.addcmul(end, a, carry[-1]))
    states = torch.addcmul(local, since, torch.stack(carry[:-1]))
    y = torch.matmul(states, C[..., None]).squeeze(-1).transpose(0, 1).flatten(0, 1)[:length]
    return to_tokens(y + D.unflatten(0, (len(sources), -1)) * q.x, orders, True)


def blelloch(u, proj, dt_weight, dt_bias, A, D, orders, sources):
    """The work-efficient parallel prefix scan (Blelloch 1990) in pure torch, about 2 log2 L passes over all states."""
    q = from_tokens(u, proj, dt_weight, dt_bias, A, orders, sources)
    decay, drive = torch.exp(q.delta[..., None] * q.A), (q.delta * q.x)[..., None] * q.B[..., None, :]
    y = torch.matmul(_prefix(decay, drive), q.C[..., None]).squeeze(-1)
    return to_tokens(y + D.unflatten(0, (len(sources), -1)) * q.x, orders, True)


def _prefix(a, b):
    """All states of s = a s + b along axis 0: pairs of steps become one step, are scanned, and fill the gaps."""
    length = len(a)
    if length == 1:
        return b
    if length % 2:
        states = _prefix(a[:-1], b[:-1])
        return torch.cat([states, torch.addcmul(b[-1:], a[-1:], states[-1:])])
    odd = _prefix(a[1::2] * a[::2], torch.addcmul(b[1::2], a[1::2], b[::2]))
    even = torch.cat([b[:1], torch.addcmul(b[2::2], a[2::2], odd[:-1])])
    return torch.stack([even, odd], dim=1).flatten(0, 1)


def materialised(u, proj, dt_weight, dt_bias, A, D, orders, sources):
    """The loop as published references do it: decays and drives of all steps first, channel-major, one index per step.

    Its gradient is quadratic in L, since each step's slice gets a gradient of full size.
    """
    q = from_tokens(u, proj, dt_weight, dt_bias, A, orders, sources)
    x, delta, B, C = (v.permute(1, 2, 3, 0).contiguous() for v in (q.x, q.delta, q.B, q.C))  # (b, k, d or n, l)
    decay = torch.exp(torch.einsum("bkdl,kdn->bkdln", delta, q.A))
    drive = torch.einsum("bkdl,bknl,bkdl->bkdln", delta, B, x)
    state, y = torch.zeros_like(decay[:, :, :, 0]), []
    for i in range(x.shape[-1]):
        state = decay[:, :, :, i] * state + drive[:, :, :, i]
        y.append(torch.einsum("bkdn,bkn->bkd", state, C[..., i]))
    y = torch.stack(y, dim=-1).permute(3, 0, 1, 2)
    return to_tokens(y + D.unflatten(0, (len(sources), -1)) * q.x, orders, True)


IMPLEMENTATIONS = {
    "native": lambda *inputs: multi_scan(*inputs, backend="native"),
    "torch loop": lambda *inputs: multi_scan(*inputs, backend="torch"),
    "two-level": two_level,
    "blelloch": blelloch,
    "materialised": materialised,
}


def _rivals(shape, mode):
    """Those that can be timed: the gradient of `materialised` is quadratic in L, `blelloch` keeps every level."""
    left_out = set()
    if mode != "forward" and shape.L > 243:
        left_out.add("materialised")
    if mode != "forward" and shape.states > LARGE:
        left_out.add("blelloch")
    return [name for name in IMPLEMENTATIONS if name not in left_out]


def _problem(shape):
    g = torch.Generator().manual_seed(0)
    b, length, d, n, k, r = shape
    tensors = [
        torch.randn(b, 2, length, d, generator=g),
        torch.randn(b, length, k, r + 2 * n, generator=g),
        0.3 * torch.randn(k, d, r, generator=g),
        torch.randn(k, d, generator=g) - 4,
        -torch.arange(1, n + 1).float().repeat(k * d, 1),
        torch.ones(k * d),
    ]
    forward = torch.arange(length)
    frame_fastest = forward.reshape(-1, 17).t().flatten() if length % 17 == 0 else forward
    orders = torch.stack([o if i < 2 else o.flip(0) for i in range(k) for o in [(forward, frame_fastest)[i % 2]]])
    return tensors, orders, tuple(i % 2 for i in range(k))


def _work(name, shape, mode):
    tensors, orders, sources = _problem(shape)
    function = IMPLEMENTATIONS[name]
    if mode == "forward":

        def work():
            with torch.no_grad():
                return function(*tensors, orders, sources)

    else:
        leaves = [x.requires_grad_() for x in tensors]
        dy = torch.randn(shape.B, shape.L, shape.D)

        def work():
            return torch.autograd.grad(function(*leaves, orders, sources), leaves, dy)

    return work


@pytest.mark.parametrize("threads", sorted({1, os.cpu_count() or 1}))
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", SHAPES)
def test_scan(benchmark, lines, name, mode, threads):
    shape = SHAPES[name]
    works = {rival: _work(rival, shape, mode) for rival in _rivals(shape, mode)}
    samples = take_turns(works, threads, budget=6, least=8)
    peaks = {rival: peak_mib(work) for rival, work in works.items()}
    took = milliseconds(samples["native"]) / 1e3
    share = floor_seconds(shape.states, mode) / threads / took
    row = note(benchmark, samples, "native", peak_mib=peaks, goal=GOALS[mode], share_of_floor=share)
    mib = ", ".join(f"{rival} {peak:.0f}" for rival, peak in peaks.items())
    rate = f"{shape.states / took / 1e9:.2f} G states/s, {share:.0%} of the instruction floor"
    lines.append(f"{name}, {mode}, {threads} threads: {row}; {rate}; peak MiB {mib}")
    benchmark.pedantic(works["native"], rounds=3)


@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="one core")
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("shape", [name for name, shape in SHAPES.items() if shape.N == 16])
def test_two_threads(benchmark, lines, shape, mode):
    """Wall clock of one thread over that of two, in alternating rounds; 2 is perfect. Whole, and inside the kernels."""
    work = _work("native", SHAPES[shape], mode)
    inside = {"two threads": [], "one thread": []}

    def on(threads, name):
        torch.set_num_threads(threads)
        calls.clear()
        work()
        inside[name].append(sum(calls))

    before = torch.get_num_threads()
    try:
        with in_native_calls() as calls:
            turns = {name: partial(on, threads, name) for threads, name in ((2, "two threads"), (1, "one thread"))}
            samples = take_turns(turns, 2, budget=4, least=20)
        rounds = {name: [inner.tolist() for inner in np.array_split(each, 20)] for name, each in inside.items()}
        kernels = ratios(rounds, "two threads")["one thread"]
        whole = note(benchmark, samples, "two threads", kernels=list(kernels))
        alone = f"kernels alone {kernels.value:.2f} [{kernels.low:.2f}, {kernels.high:.2f}]"
        lines.append(f"{shape}, {mode}: {whole}; {alone}")
        benchmark.pedantic(work, rounds=3)
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("function", [two_level, blelloch, materialised])
@pytest.mark.parametrize("length", [1, 10, 459])
def test_rivals_are_the_scan(function, length):
    tensors, orders, sources = _problem(Shape(1, length, D=8))
    truth = reference.multi_scan(*[x.double() for x in tensors], orders, sources, True)
    assert (function(*tensors, orders, sources) - truth).abs().max() <= 1e-5 * truth.abs().max()
