"""The native layers around a scan against the same layers of PyTorch in float64."""

import itertools

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from posescale.errors import ShapeError
from posescale.ops.native import build, tokens

pytestmark = pytest.mark.skipif(tokens.unavailable() is not None, reason=f"native: {build.unavailable('tokens')}")


def _randn(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def _norm(width, seed):
    norm = nn.LayerNorm(width, eps=1e-3, dtype=torch.float64).requires_grad_(False)
    norm.weight.copy_(_randn(width, seed=seed))
    norm.bias.copy_(_randn(width, seed=seed + 1))
    return norm


def _tolerance(dtype):
    return {"rtol": 0, "atol": 3e-6 if dtype == torch.float32 else 1e-12}


def _dense(rows, width, out, parts, dtype):
    """The native layer with these parts, and PyTorch's answer in float64."""
    x, gate, residual = _randn(rows, width), _randn(rows, 2 * width, seed=1)[:, width:], _randn(rows, out, seed=2)
    weight, bias = _randn(out, width, seed=3) / width**0.5, _randn(out, seed=4)
    before, after = _norm(width, 5), _norm(out, 7)
    truth = before(x) if "before" in parts else x
    truth = F.linear(truth * F.silu(gate) if "gate" in parts else truth, weight, bias if "bias" in parts else None)
    truth = F.gelu(truth) if "gelu" in parts else truth
    truth = truth + residual if "residual" in parts else truth
    truth = after(truth) if "after" in parts else truth
    y = torch.full((rows, out), torch.nan, dtype=dtype)
    given = {"gate": gate, "residual": residual, "before": before, "after": after}
    options = {k: v.to(dtype) for k, v in given.items() if k in parts}
    tokens.dense(x.to(dtype), weight.to(dtype), bias.to(dtype) if "bias" in parts else None, y,
                 gelu="gelu" in parts, **options)  # fmt: skip
    return y.double(), truth


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("count", range(7))
def test_every_combination_of_parts(dtype, count):
    for parts in itertools.combinations(["bias", "before", "gate", "gelu", "residual", "after"], count):
        torch.testing.assert_close(*_dense(50, 20, 24, parts, dtype), **_tolerance(dtype))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("rows", [0, 1, 5, 6, 7, 11, 12, 13, 47, 48, 49, 97])
@pytest.mark.parametrize(("width", "out"), [(1, 1), (3, 16), (64, 17), (130, 15)])
def test_sizes_beside_those_of_the_tiles(dtype, rows, width, out):
    parts = ("bias", "before", "residual")
    torch.testing.assert_close(*_dense(rows, width, out, parts, dtype), **_tolerance(dtype))


@pytest.mark.parametrize(("groups", "columns"), [(1, 40), (2, 36), (4, 5), (3, 16), (8, 1)])
def test_columns_go_to_their_groups(groups, columns):
    x, weight = _randn(30, 8), _randn(groups * columns, 8, seed=1)
    room = torch.full((groups + 1, 30, columns), torch.nan, dtype=torch.float64)
    tokens.dense(x, weight, None, room[:groups].transpose(0, 1))
    torch.testing.assert_close(room[:groups].transpose(0, 1).flatten(1), x @ weight.T, rtol=0, atol=1e-12)
    assert room[groups].isnan().all()


def test_a_residual_may_be_updated_in_place():
    x, weight, y = _randn(60, 8), _randn(24, 8, seed=1), _randn(60, 24, seed=2)
    truth = y + x @ weight.T
    tokens.dense(x, weight, None, y, residual=y)
    torch.testing.assert_close(y, truth, rtol=0, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_activations_over_their_range(dtype):
    v = torch.cat([torch.linspace(-30, 30, 4001), torch.tensor([-1e30, -100.0, -0.0, 1e-30, 1e30])]).to(dtype)[:, None]
    one, y = torch.ones(1, 1, dtype=dtype), torch.empty_like(v)
    allowed = 2e-7 if dtype == torch.float32 else 1e-15
    tokens.dense(v, one, None, y, gelu=True)
    assert ((y - F.gelu(v.double())).abs() <= allowed * v.abs().clamp_min(1)).all()
    tokens.dense(torch.ones_like(v), one, None, y, gate=v)
    assert ((y - F.silu(v.double())).abs() <= allowed * v.abs().clamp_min(1)).all()


def test_nan_stays_nan():
    v, one = torch.full((1, 1), torch.nan), torch.ones(1, 1)
    for options in ({"gelu": True}, {"before": nn.LayerNorm(1)}, {"residual": v}, {"gate": v}):
        y = torch.zeros(1, 1)
        tokens.dense(one if "gate" in options or "residual" in options else v, one, None, y, **options)
        assert y.isnan().all(), options


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [(2, 1, 1, 5), (1, 4, 3, 16), (2, 3, 17, 40), (0, 3, 4, 8)])
@pytest.mark.parametrize("with_limbs", [True, False])
def test_convolution(dtype, shape, with_limbs):
    d = shape[3]
    wide, weight, bias = _randn(*shape[:3], 2 * d), _randn(d, 1, 3, 3, seed=1) / 3, _randn(d, seed=2)
    x = wide[..., :d]
    limbs = torch.randint(shape[2], (shape[2],), generator=torch.Generator().manual_seed(3)) if with_limbs else None
    truth = F.silu(F.conv2d(x.movedim(3, 1), weight, bias, padding=1, groups=d)).movedim(1, 3)
    u = torch.full((2 if with_limbs else 1, *shape), torch.nan, dtype=dtype)
    tokens.convolve(wide.to(dtype)[..., :d], weight.to(dtype), bias.to(dtype), limbs, u)
    torch.testing.assert_close(u[-1].double(), truth, **_tolerance(dtype))
    if with_limbs:
        torch.testing.assert_close(u[0].double(), truth + truth[:, :, limbs], **_tolerance(dtype))


def test_shapes_that_do_not_fit_are_refused():
    x, weight, y = torch.zeros(4, 8), torch.zeros(6, 8), torch.zeros(4, 6)
    for wrong in ((x, torch.zeros(6, 7), None, y), (x, weight, torch.zeros(5), y), (x, weight, None, torch.zeros(4, 5)),
                  (x, weight, None, torch.zeros(4, 4, 2))):  # fmt: skip
        with pytest.raises(ShapeError, match="expects"):
            tokens.dense(*wrong)
    for wrong in ({"gate": y}, {"residual": x}, {"before": nn.LayerNorm(6)}, {"after": nn.LayerNorm(8)}):
        with pytest.raises(ShapeError, match="expects"):
            tokens.dense(x, weight, None, y, **wrong)
    with pytest.raises(ShapeError, match="side by side"):
        tokens.dense(torch.zeros(8, 4).t(), weight, None, y)
    with pytest.raises(ShapeError, match="weight"):
        tokens.convolve(
            torch.zeros(1, 2, 3, 4), torch.zeros(4, 1, 5, 5), torch.zeros(4), None, torch.zeros(1, 1, 2, 3, 4)
        )
