"""Speed and peak memory of `multi_scan`, as ratios measured in one run: `pytest benchmarks/test_scan.py`.

One thread is timed by the process's CPU time (other programs disturb it least), all threads by the wall clock. Every
ratio is time divided by native's. Nothing is asserted about speed: the goals stand beside the ratios in the table.
POSESCALE_BENCH=small takes the short shapes only.
"""

import os
import time
from pathlib import Path
from statistics import median
from typing import NamedTuple

import pytest
import torch

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
IMPLEMENTATIONS = ("native", "torch loop", "two-level", "reference", "materialised")
MODES = ("forward", "forward+backward")
# Ratios aimed at on one core with N = 16.
GOALS = {
    "forward": "materialised >= 15 (>= 50 at L >= 1377 with AVX-512)",
    "forward+backward": "torch loop >= 8; materialised >= 30 at L = 17, >= 300 at L >= 243",
}
_results: dict[tuple[str, str, int, str], tuple[float, float]] = {}


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


def _implementation(name):
    if name == "materialised":
        return materialised
    if name == "two-level":
        return two_level
    if name == "reference":
        return lambda *inputs: reference.multi_scan(*inputs, True)  # plain autograd over the loop
    return lambda *inputs: multi_scan(*inputs, backend={"native": "native", "torch loop": "torch"}[name])


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
    function = _implementation(name)
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


def _peak_mib(work):
    """Growth of resident memory while `work` runs, at its highest; NaN where the system does not tell."""
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
        before = _status("VmRSS")
        work()
        return (_status("VmHWM") - before) / 1024
    except OSError:
        return float("nan")


def _status(key):
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(key))


@pytest.fixture(scope="module", autouse=True)
def table(request):
    """Print the ratios when all is measured."""
    yield
    if not _results:
        return
    capture = request.config.pluginmanager.getplugin("capturemanager")
    with capture.global_and_fixture_disabled():
        _print_table(request.config.get_terminal_writer())


def _print_table(out):
    for mode in MODES:
        for threads in sorted({key[2] for key in _results}):
            out.line(f"\n\n{mode}, {threads} thread{'s' * (threads > 1)}; goals over native: {GOALS[mode]}")
            out.line(f"{'shape':26}{'native ms':>10}" + "".join(f"{name:>24}" for name in IMPLEMENTATIONS[1:]))
            for shape in SHAPES:
                out.line(_row(shape, mode, threads))
    out.line("cells: ratio of times to native's (peak MiB; native's peak in its own cell)")


def _row(shape, mode, threads):
    cells = {name: _results.get((shape, mode, threads, name)) for name in IMPLEMENTATIONS}
    native = cells["native"]
    if native is None:
        return f"{shape:26}{'-':>10}"
    text = f"{shape:26}{native[0] * 1e3:>10.2f}"
    for name in IMPLEMENTATIONS[1:]:
        seconds, peak = cells[name] or (float("nan"), float("nan"))
        text += f"{f'{seconds / native[0]:.1f} ({peak:.0f} to {native[1]:.0f})':>24}"
    return text


@pytest.mark.parametrize("name", IMPLEMENTATIONS)
@pytest.mark.parametrize("threads", sorted({1, os.cpu_count() or 1}))
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("shape", SHAPES)
def test_scan(benchmark, shape, mode, threads, name):
    if name == "materialised" and mode != "forward" and SHAPES[shape].L > 459:
        pytest.skip("its backward pass is quadratic in L")
    work = _work(name, SHAPES[shape], mode)
    before, clock = torch.get_num_threads(), time.process_time if threads == 1 else time.perf_counter
    samples = []

    def timed():
        start = clock()
        work()
        samples.append(clock() - start)

    try:
        torch.set_num_threads(threads)
        rounds = 15 if name == "native" else 3
        benchmark.pedantic(timed, rounds=rounds, warmup_rounds=1)
        _results[shape, mode, threads, name] = median(samples[1:]), _peak_mib(work)
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("function", [two_level, materialised])
@pytest.mark.parametrize("length", [1, 10, 459])
def test_rivals_are_the_scan(function, length):
    tensors, orders, sources = _problem(Shape(1, length, D=8))
    truth = reference.multi_scan(*[x.double() for x in tensors], orders, sources, True)
    assert (function(*tensors, orders, sources) - truth).abs().max() <= 1e-5 * truth.abs().max()
