"""Whole PoseMamba, as ratios measured in one run: `pytest benchmarks/test_posemamba.py -k "forward and posemamba_s"`.

Forward: the suite's model against the plain data flow of the published code (plain_posemamba.py) with the scan taken
out, with the best pure-torch scan, and with the compiled scan as a drop-in; same weights. Goals: above 1 against the
plain flow without a scan, at least 10 against the one with the torch scan. Training: forward, loss and backward
against the same model on the torch back end. Goal: at least 5, in less memory.
"""

import os

import plain_posemamba
import pytest
import torch
from side_by_side import milliseconds, note, peak_mib, shares, take_turns

import posescale


def _model(name, frames, **overrides):
    torch.manual_seed(0)
    return posescale.create_model(name, frames=frames, **overrides)


def _input(batch, frames):
    return torch.randn(batch, frames, 17, 2, generator=torch.Generator().manual_seed(1))


def _mib(peaks):
    return "peak MiB " + ", ".join(f"{label} {peak:.0f}" for label, peak in peaks.items())


@pytest.mark.parametrize("threads", sorted({1, os.cpu_count() or 1}))
@pytest.mark.parametrize("name", ["posemamba_s", "posemamba_b", "posemamba_l"])
@pytest.mark.parametrize("frames", [27, 81, 243])
def test_forward(benchmark, lines, name, frames, threads):
    ours, x = _model(name, frames).eval(), _input(1, frames)
    models = {"token-major": ours}
    for label in ("removed", "loop", "native"):
        models[f"plain, {label}"] = plain_posemamba.plain(ours, getattr(plain_posemamba, label))

    def work(model):
        def call():
            with torch.no_grad():
                return model(x)

        return call

    works = {label: work(model) for label, model in models.items()}
    y = works["token-major"]()
    error = max((works[label]() - y).abs().max().item() for label in ("plain, loop", "plain, native"))
    samples = take_turns(works, threads, budget=15, least=5)
    peaks = {label: peak_mib(call) for label, call in works.items()}
    parts = shares(works["token-major"])
    row = note(benchmark, samples, "token-major", error=error, peak_mib=peaks, shares=parts)
    lines.append(f"{name} T={frames}, forward, {threads} threads: {row}; outputs within {error:.1e}; {_mib(peaks)}")
    lines.append("    share of time: " + ", ".join(f"{part} {share:.0%}" for part, share in parts.items()))
    benchmark.pedantic(works["token-major"], rounds=3)
    assert error <= 2e-6 * max(1.0, y.abs().max().item())


@pytest.mark.parametrize("name, frames, batch", [("posemamba_tiny", 27, 8), ("posemamba_s", 81, 1),
                                                 ("posemamba_s", 243, 1)])  # fmt: skip
def test_training_step(benchmark, lines, name, frames, batch):
    x = _input(batch, frames)

    def work(backend):
        model = _model(name, frames, backend=backend).train()

        def step():
            model.zero_grad()
            model(x).square().mean().backward()

        return step

    works = {label: work(label) for label in ("native", "torch")}
    samples = take_turns(works, 1, budget=10, least=3)
    peaks = {label: peak_mib(step) for label, step in works.items()}
    row = note(benchmark, samples, "native", peak_mib=peaks)
    rate = 1e3 * batch / milliseconds(samples["native"])
    parts = shares(works["native"])
    lines.append(f"{name} T={frames}, batch {batch}, training step: {row}; {rate:.2f} clips/s; {_mib(peaks)}")
    lines.append("    share of time: " + ", ".join(f"{part} {share:.0%}" for part, share in parts.items()))
    benchmark.pedantic(works["native"], rounds=3)
