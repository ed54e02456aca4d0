"""PoseMamba's fused way without gradients: the same numbers as the plain way, and only where nobody looks inside."""

from contextlib import nullcontext

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations
from torch.utils.flop_counter import FlopCounterMode

from posescale.layers import fused
from posescale.layers.ss2d import SCANS
from posescale.models import create_model
from posescale.ops import ran
from posescale.ops.native import tokens

pytestmark = pytest.mark.skipif(tokens.unavailable() is not None, reason=f"native: {tokens.unavailable()}")


@torch.no_grad()
def _model(**arguments):
    """A small model, every weight away from special starts."""
    torch.manual_seed(0)
    model = create_model("posemamba_tiny", **{"frames": 9, "depth": 2, **arguments}).eval()
    for parameter in model.parameters():
        parameter.add_(0.05 * torch.randn_like(parameter))
    return model


def _clip(batch=2, frames=5, joints=17, dtype=torch.float32):
    return torch.randn(batch, frames, joints, 2, generator=torch.Generator().manual_seed(1), dtype=dtype)


def _plain(model, x):
    with torch.enable_grad():
        return model(x).detach()


@pytest.fixture
def calls(monkeypatch):
    """How often a block ran fused."""
    count, block = [], fused.block
    monkeypatch.setattr(fused, "block", lambda *inputs: (count.append(1), block(*inputs)))
    return count


@torch.no_grad()
@pytest.mark.parametrize("scan", SCANS)
@pytest.mark.parametrize(("batch", "frames", "joints"), [(1, 1, 17), (3, 5, 3), (2, 9, 17), (0, 4, 17)])
def test_equals_the_plain_way_in_float64(calls, scan, batch, frames, joints):
    limbs = {} if joints == 17 or scan != SCANS[0] else {"limb_map": [2, 0, 0]}
    model = _model(scan=scan, joints=joints, dim=20, d_state=3, mlp_ratio=1.5, **limbs).double()
    x = _clip(batch, frames, joints, torch.float64)
    expected = _plain(model, x)
    assert not calls
    torch.testing.assert_close(model(x), expected, rtol=0, atol=1e-11)
    assert len(calls) == 4


@torch.no_grad()
@pytest.mark.parametrize("name", ["posemamba_s", "posemamba_b"])
def test_float32_outputs_within_rounding(calls, name):
    torch.manual_seed(0)
    model, x = create_model(name, frames=9).eval(), _clip(1, 9)
    expected, y = _plain(model, x), model(x)
    assert (y - expected).abs().max() <= 2e-6 * expected.abs().max().clamp_min(1)
    assert len(calls) == 20


@torch.inference_mode()
def test_results_do_not_depend_on_the_threads(calls):
    model, x, before, results = _model(), _clip(3, 9), torch.get_num_threads(), []
    try:
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            results.append(model(x))
    finally:
        torch.set_num_threads(before)
    assert calls and all(torch.equal(results[0], other) for other in results[1:])


@torch.no_grad()
def test_every_buffer_is_written_before_it_is_read(calls):
    """In this mode of torch fresh memory is NaN."""
    model, x = _model(), _clip()
    expected = model(x)
    torch.use_deterministic_algorithms(True)
    try:
        assert torch.equal(model(x), expected) and calls
    finally:
        torch.use_deterministic_algorithms(False)


@torch.no_grad()
def test_passes_leave_nothing_behind(calls):
    model, x = _model(), _clip()
    given = x.clone()
    first = model(x)
    kept = first.clone()
    model(_clip(1, 9))
    assert torch.equal(x, given) and torch.equal(first, kept) and torch.equal(model(x), first)
    model.STEblocks[1].op.in_proj.weight.mul_(1.5)  # weights are read anew
    assert not torch.equal(model(x), first)
    torch.testing.assert_close(model(x), _plain(model, x), rtol=0, atol=2e-6)
    assert calls and set(model.state_dict()) == {name for name, _ in model.named_parameters()}


@torch.no_grad()
def test_what_ran_is_told(calls):
    model, x = _model(), _clip()
    with ran() as used:
        model(x)
    assert used == {"multi_scan": "native", "block": "fused"} and calls
    with ran() as used:
        _plain(model, x)
    assert used == {"multi_scan": "native"}


def _hook(module):
    module.register_forward_hook(lambda *_: None)


def _global_hook(module):
    return nn.modules.module.register_module_forward_hook(lambda *_: None)


class _Other(nn.Linear):
    pass


CHANGES = {
    "training": lambda model: model.train(),
    "a norm in training": lambda model: model.STEblocks[0].norm.train(),
    "a hook": lambda model: _hook(model.TTEblocks[1].mlp.fc1),
    "a pre-hook": lambda model: model.register_forward_pre_hook(lambda *_: None),
    "another module": lambda model: setattr(model.STEblocks[0].op, "in_proj", _Other(32, 128, bias=False)),
    "a parametrised weight": lambda model: parametrizations.weight_norm(model.STEblocks[0].mlp.fc1),
    "another type": lambda model: model.bfloat16(),
    "one weight of another type": lambda model: model.STEblocks[0].norm.double(),
    "a weight of another layout": lambda model: setattr(
        model.STEblocks[0].norm, "weight", nn.Parameter(torch.ones(64)[::2])
    ),
    "another scan": lambda model: setattr(model.STEblocks[0].op, "backend", "torch"),
}


@torch.no_grad()
@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_model_takes_the_plain_way(change):
    model = _model()
    x = torch.zeros(1, 2, 17, 32)
    assert fused.possible(model, x, type(model), type(model.STEblocks[0]))
    CHANGES[change](model)
    assert not fused.possible(model, x, type(model), type(model.STEblocks[0]))


@pytest.mark.parametrize("watch", [torch.enable_grad, lambda: torch.autocast("cpu"), FlopCounterMode, None])
def test_who_looks_inside_sees_the_plain_way(calls, watch):
    model, x = _model(), _clip()
    handle = _global_hook(model) if watch is None else None
    try:
        with torch.no_grad(), watch() if watch else nullcontext():
            model(x)
    finally:
        if handle:
            handle.remove()
    assert not calls


@torch.no_grad()
def test_counters_see_every_product():
    model, x, counts = _model(), _clip(), []
    for grad in (True, False):
        with torch.set_grad_enabled(grad), FlopCounterMode(display=False) as counter:
            model(x)
        counts.append(counter.get_total_flops())
    assert counts[0] == counts[1] > 0


@torch.no_grad()
def test_without_the_kernels_the_plain_way_is_taken(calls, monkeypatch):
    model, x = _model(), _clip()
    expected = model(x)
    calls.clear()
    monkeypatch.setattr(tokens, "unavailable", lambda: "no C compiler found")
    torch.testing.assert_close(model(x), expected, rtol=0, atol=2e-6)
    assert not calls
