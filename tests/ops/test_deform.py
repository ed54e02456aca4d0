"""The native deformable convolution against the grid_sample form, and as an operator of torch's library."""

import json
import os
import subprocess
import sys

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from posescale.errors import UnavailableError
from posescale.layers.deformable import deform_conv2d
from posescale.measure.counting import count
from posescale.ops import backends, ran
from posescale.ops.native import build

native = pytest.mark.skipif(bool(build.unavailable("deform")), reason=f"native: {build.unavailable('deform')}")


def _problem(n=2, c=6, h=5, w=7, out=4, kernel=(3, 3), groups=2, reach=1.5, dtype=torch.float64, seed=0):
    """x, offset, mask, weight, bias."""
    generator = torch.Generator().manual_seed(seed)
    taps = kernel[0] * kernel[1]
    shapes = [(n, c, h, w), (n, 2 * taps, h, w), (n, taps, h, w), (out, c // groups, *kernel), (out,)]
    tensors = [torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype) for shape in shapes]
    tensors[1] *= reach
    return tensors


def _run(tensors, groups, backend, weights=None):
    """Output and the five gradients."""
    leaves = [x.detach().clone(memory_format=torch.preserve_format).requires_grad_() for x in tensors]
    y = deform_conv2d(*leaves, groups, backend)
    torch.manual_seed(1)
    (y * torch.randn(y.shape, dtype=torch.float64).to(y.dtype)).sum().backward()
    return [y.detach(), *(x.grad for x in leaves)]


def _assert_agree(tensors, groups, rtol=1e-10):
    found, expected = (_run(tensors, groups, backend) for backend in ("native", "torch"))
    for name, a, b in zip(("y", "x", "offset", "mask", "weight", "bias"), found, expected, strict=True):
        scale = b[b.isfinite()].abs().max().item() if b.isfinite().any() else 0
        torch.testing.assert_close(a, b, rtol=rtol, atol=rtol * scale, msg=lambda m, name=name: f"{name}: {m}")


@native
@pytest.mark.parametrize(
    "sizes",
    [
        {},
        {"c": 32, "out": 32, "groups": 8, "h": 24, "w": 16},
        {"c": 16, "out": 16, "groups": 16},
        {"c": 17, "out": 19, "groups": 1},
        {"c": 40, "out": 80, "groups": 5, "h": 9, "w": 4},
        {"c": 1, "out": 1, "groups": 1, "n": 5},
        {"kernel": (1, 1)},
        {"kernel": (5, 5)},
        {"kernel": (1, 3)},
        {"kernel": (5, 1), "h": 1},
        {"w": 1},
        {"h": 1, "w": 1},
        {"n": 1, "h": 8, "w": 8},  # two whole blocks of pixels
        {"n": 35, "h": 3, "w": 11},  # more images than slices, one whole block and a pixel
        {"reach": 0.01},
        {"reach": 20.0},
        {"reach": 1e6},
    ],
    ids=str,
)
def test_equals_the_grid_sample_form(sizes):
    _assert_agree(_problem(**sizes), sizes.get("groups", 2))


@native
@pytest.mark.parametrize("reach", [0.7, 30.0])
def test_single_precision(reach):
    tensors = _problem(c=32, out=32, groups=8, h=24, w=16, reach=reach)
    truth = _run(tensors, 8, "torch")
    floats = [x.float() for x in tensors]
    found, rival = _run(floats, 8, "native"), _run(floats, 8, "torch")
    for a, b, exact in zip(found, rival, truth, strict=True):
        error, other = ((v.double() - exact).norm() / exact.norm() for v in (a, b))
        assert a.dtype == torch.float32 and error <= max(2 * other, 1e-6)


@native
@pytest.mark.parametrize("shift", [(0, 0), (-1, 2), (3, -2), (0.5, 0), (-9, 0), (8, 8), (0, -0.25)])
def test_whole_and_half_pixels_at_every_border(shift):
    """All taps together: reads end on pixels, on the border, a fraction or whole pixels outside."""
    tensors = _problem(h=8, w=4)  # powers of two: grid_sample's units are exact
    tensors[1].view(2, 9, 2, 8, 4)[:] = torch.tensor(shift, dtype=torch.float64)[:, None, None]
    _assert_agree(tensors, 2)


@native
@pytest.mark.parametrize("value", [1e30, -1e30, 1e9, -3e9])
def test_far_away_is_zero(value):
    tensors = _problem()
    tensors[1].fill_(value)
    y, *grads = _run(tensors, 2, "native")
    assert torch.equal(y, tensors[4][:, None, None].expand_as(y))
    assert all(not g.any() for g in grads[:4])
    tensors[1] = tensors[1].float().double()
    _assert_agree(tensors, 2)


@native
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("which", range(4))
def test_what_is_not_finite_goes_where_the_reference_has_it(which, value, dtype):
    tensors = _problem(h=8, w=4, c=3, out=2, groups=1, dtype=dtype)
    tensors[which].view(-1)[3] = value
    found, expected = (_run(tensors, 1, backend) for backend in ("native", "torch"))
    assert not found[0].isfinite().all()
    for name, a, b in zip(("y", "x", "offset", "mask", "weight", "bias"), found, expected, strict=True):
        assert torch.equal(a.isfinite(), b.isfinite()), name


@native
def test_gradcheck():
    leaves = [x.requires_grad_() for x in _problem(c=4, h=3, w=4)]
    assert torch.autograd.gradcheck(lambda *x: deform_conv2d(*x, 2, "native"), leaves)


@native
def test_no_images():
    y, *grads = _run(_problem(n=0), 2, "native")
    assert y.shape == (0, 4, 5, 7)
    assert [tuple(g.shape) for g in grads] == [(0, 6, 5, 7), (0, 18, 5, 7), (0, 9, 5, 7), (4, 3, 3, 3), (4,)]
    assert not any(g.any() for g in grads)


@native
def test_memory_layouts_do_not_matter():
    tensors = _problem(c=16, out=16)
    expected = _run(tensors, 2, "native")
    spread = [torch.stack([x, x + 1], dim=-1)[..., 0] for x in tensors]
    last = [x.contiguous(memory_format=torch.channels_last) if x.ndim == 4 else x for x in tensors]
    turned = [x.transpose(-1, -2).contiguous().transpose(-1, -2) if x.ndim == 4 else x for x in tensors]
    for other in (spread, last, turned):
        leaves = [x.requires_grad_() for x in other]
        y = deform_conv2d(*leaves, 2, "native")
        torch.manual_seed(1)
        grads = torch.autograd.grad(y, leaves, torch.randn(y.shape, dtype=torch.float64))
        assert all(torch.equal(a, b) for a, b in zip(expected, (y, *grads), strict=True))


@native
def test_results_do_not_depend_on_threads():
    tensors = _problem(n=19, c=20, out=20, h=9, w=13, dtype=torch.float32)
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            results.append(_run(tensors, 2, "native"))
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other))


@native
def test_every_output_is_written():
    """In this mode of torch fresh memory is NaN."""
    torch.use_deterministic_algorithms(True)
    try:
        assert all(x.isfinite().all() for x in _run(_problem(c=17, out=19, groups=1), 1, "native"))
    finally:
        torch.use_deterministic_algorithms(False)


@native
def test_library_contract_and_one_graph():
    x, offset, mask, weight, bias = (t.requires_grad_() for t in _problem())
    rows = [t.detach().permute(0, 2, 3, 1).contiguous().requires_grad_() for t in (x, offset, mask)]
    torch.library.opcheck(torch.ops.posescale.deform_conv2d, (*rows, weight, 2))
    for backend in ("auto", "native", "torch"):
        function = torch.compile(
            lambda *t, b=backend: deform_conv2d(*t, 2, b).sin(), fullgraph=True, backend="aot_eager"
        )
        leaves = (x, offset, mask, weight, bias)
        eager = deform_conv2d(*leaves, 2, backend).sin()
        with ran() as used:
            compiled = function(*leaves)
        # A graph of torch's own operators says nothing.
        assert used == ({} if backend == "torch" else {"deform_conv2d": "native"})
        torch.testing.assert_close(compiled, eager, rtol=1e-12, atol=1e-12)
        for a, b in zip(torch.autograd.grad(compiled.sum(), leaves), torch.autograd.grad(eager.sum(), leaves)):
            torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)
    torch.compiler.reset()


class _Call(nn.Module):
    def forward(self, *tensors):
        return deform_conv2d(*tensors, 2, self.backend)


@native
def test_costs_do_not_depend_on_the_back_end():
    tensors, call, counts, flops = _problem(), _Call(), [], []
    for device, call.backend in (("cpu", "native"), ("cpu", "torch"), ("meta", "auto")):
        moved = [x.detach().to(device).requires_grad_() for x in tensors]
        counts.append(count(call, *moved))
        with FlopCounterMode(display=False) as forward:
            y = call(*moved)
        with FlopCounterMode(display=False) as backward:
            y.sum().backward()
        flops.append((forward.get_total_flops(), backward.get_total_flops()))
    macs = 2 * 5 * 7 * 4 * 3 * 9
    assert flops == [(2 * macs, 4 * macs)] * 3
    assert [(c.contractions, dict(c.uncounted)) for c in counts] == [(macs, {})] * 3
    assert len({c.elementwise for c in counts}) == 1


def test_what_ran_is_collected_and_back_ends_are_named():
    tensors = _problem()
    with ran() as used:
        deform_conv2d(*tensors, 2, "torch")
        deform_conv2d(*[x.bfloat16() for x in tensors], 2)
    assert used == {"deform_conv2d": "torch"}
    with ran() as used:
        deform_conv2d(*tensors, 2)
    assert used == {"deform_conv2d": "torch" if build.unavailable("deform") else "native"}
    assert backends()["deform_conv2d"]["torch"] == "available"
    with pytest.raises(UnavailableError, match="unknown back end 'fast'"):
        deform_conv2d(*tensors, 2, "fast")
    with pytest.raises(UnavailableError, match="float32 or float64, all of one type, found torch.bfloat16"):
        deform_conv2d(*[x.bfloat16() for x in tensors], 2, "native")
    with pytest.raises(UnavailableError, match="CPU tensors, found meta"):
        deform_conv2d(*[x.to("meta") for x in tensors], 2, "native")


@pytest.mark.parametrize(
    ("which", "shape", "words"),
    [
        (0, (2, 5, 5, 7), "groups must divide"),
        (0, (2, 8, 5, 7), "weight must have shape"),
        (0, (2, 6, 0, 7), r"x must be \(N, C, H, W\)"),
        (1, (2, 9, 5, 7), "offset must have shape"),
        (2, (2, 9, 5, 6), "mask must have shape"),
        (3, (4, 3, 2, 3), "odd"),
        (3, (3, 3, 3, 3), "groups must divide"),
        (4, (1,), "bias must have shape"),
    ],
)
def test_what_does_not_fit_is_named(which, shape, words):
    tensors = _problem()
    tensors[which] = torch.zeros(shape, dtype=torch.float64)
    with pytest.raises(ValueError, match=words):
        deform_conv2d(*tensors, 2)


_ASK = """
import json, torch
from posescale.layers.deformable import deform_conv2d
from posescale.ops import backends, ran
with ran() as used:
    for _ in range(2):
        ones = [torch.ones(1, 1, 2, 2), torch.zeros(1, 2, 2, 2), torch.ones(1, 1, 2, 2), torch.ones(1, 1, 1, 1)]
        y = deform_conv2d(*ones)
print(json.dumps([backends()["deform_conv2d"], used, y.sum().item()]))
"""


def test_without_a_compiler_torch_runs_and_says_why_once(tmp_path):
    clean = {k: v for k, v in os.environ.items() if k != "CC"} | {"XDG_CACHE_HOME": str(tmp_path), "PATH": ""}
    done = subprocess.run([sys.executable, "-c", _ASK], env=clean, capture_output=True, text=True, check=True)
    states, used, total = json.loads(done.stdout)
    assert "no C compiler" in states["native"] and used == {"deform_conv2d": "torch"} and total == 4
    assert done.stderr.count("deform_conv2d on cpu falls back to torch: native: no C compiler") == 1
