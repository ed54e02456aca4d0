"""PoseMamba and its 2-D selective scan against a slow literal reading of the specification."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch._subclasses.fake_tensor import FakeTensorMode

from posescale.cards import component
from posescale.checkpoints import load_checkpoint, save_weights
from posescale.errors import CheckpointError, ConfigError, ShapeError
from posescale.layers import ss2d
from posescale.layers.ss2d import SCANS, SS2D, scan_orders
from posescale.measure.closed_form import closed_form
from posescale.models import create_model

OFFICIAL = [0, 0, 1, 2, 3, 0, 4, 5, 6, 8, 11, 12, 13, 8, 14, 15, 16]
PARENTS = [0, 0, 1, 2, 0, 4, 5, 0, 7, 8, 9, 8, 11, 12, 8, 14, 15]


def _paths(scan: str, frames: int, joints: int) -> list[list[tuple[int, int]]]:
    """The four directions as lists of (frame, joint), written out by loops."""
    frame_major = [(t, j) for t in range(frames) for j in range(joints)]
    joint_major = [(t, j) for j in range(joints) for t in range(frames)]
    if scan.startswith("v2"):
        return [frame_major, joint_major, frame_major[::-1], joint_major[::-1]]
    first, second = scan.split("_")
    if first == "bs":
        frame_major = [(t, j) for t in range(frames) for j in reversed(range(joints))]
    if second == "bt":
        joint_major = [(t, j) for j in range(joints) for t in reversed(range(frames))]
    return [frame_major, joint_major, frame_major, joint_major]


def _literal(op: SS2D, x: torch.Tensor, limbs: list[int] | None) -> torch.Tensor:
    """SS2D one token at a time."""
    K, D, R = op.dt_projs_weight.shape
    N = op.A_logs.shape[1]
    h, z = op.in_proj(x).split(D, dim=-1)
    h = F.silu(op.conv2d(h.movedim(-1, 1))).movedim(1, -1)
    y = torch.zeros_like(h)
    for k, path in enumerate(_paths(op.scan, x.shape[1], x.shape[2])):
        A = -op.A_logs[k * D : (k + 1) * D].exp()
        state = h.new_zeros(x.shape[0], D, N)
        for t, j in path:
            u = h[:, t, j] + (h[:, t, limbs[j]] if limbs and k in (0, 2) else 0)
            dt, B, C = (u @ op.x_proj_weight[k].T).split([R, N, N], dim=-1)
            delta = F.softplus(dt @ op.dt_projs_weight[k].T + op.dt_projs_bias[k])
            state = (delta[..., None] * A).exp() * state + (delta * u)[..., None] * B[:, None]
            y[:, t, j] += (state * C[:, None]).sum(-1) + op.Ds[k * D : (k + 1) * D] * u
    return op.out_proj(op.out_norm(y) * F.silu(z))


@torch.no_grad()
@pytest.mark.parametrize("scan", SCANS)
@pytest.mark.parametrize(("frames", "joints"), [(1, 17), (4, 17), (5, 3)])
def test_every_scan_equals_its_literal_reading(scan, frames, joints):
    torch.manual_seed(0)
    limbs = OFFICIAL if joints == 17 else [2, 0, 0]
    op = SS2D(8, state=3, scan=scan, limbs=limbs).double()
    op.A_logs.add_(0.3 * torch.randn_like(op.A_logs))
    op.Ds.add_(torch.randn_like(op.Ds))
    x = torch.randn(2, frames, joints, 8, dtype=torch.float64)
    expected = _literal(op, x, limbs if scan == "v2_plus_poselimbs" else None)
    torch.testing.assert_close(op(x), expected, rtol=1e-11, atol=1e-12)


def test_scans_are_distinct_models():
    torch.manual_seed(0)
    x = torch.rand(1, 3, 17, 2)
    outputs = []
    for scan in SCANS:
        torch.manual_seed(1)
        outputs.append(create_model("posemamba_tiny", scan=scan, frames=9).eval()(x))
    assert all((a - b).abs().max() > 1e-4 for i, a in enumerate(outputs) for b in outputs[:i])


@torch.no_grad()
def test_limb_maps():
    x = torch.rand(1, 3, 17, 2)

    def output(limb_map):
        torch.manual_seed(1)
        return create_model("posemamba_tiny", limb_map=limb_map, frames=9).eval()(x)

    assert torch.equal(output("official"), output(OFFICIAL))
    assert torch.equal(output("true_parents"), output(PARENTS))
    assert not torch.equal(output("official"), output("true_parents"))


@pytest.mark.parametrize("bad", ["parents", [0] * 16, [0] * 16 + [17], [0] * 16 + [-1], [0.0] * 17])
def test_wrong_limb_maps_are_refused(bad):
    with pytest.raises(ConfigError, match="limb_map"):
        create_model("posemamba_tiny", limb_map=bad)


def test_other_skeletons():
    with pytest.raises(ConfigError, match=r"each of 14 joints.*scan='v2'"):
        create_model("posemamba_tiny", joints=14)
    x = torch.rand(2, 4, 14, 3)
    for arguments in ({"scan": "v2"}, {"limb_map": [0] * 14}):
        assert create_model("posemamba_tiny", joints=14, frames=9, **arguments)(x).shape == (2, 4, 14, 3)


@pytest.mark.parametrize("bad", [{"scan": "v3"}, {"gradient": "true"}, {"channels": 4}])
def test_unknown_switches_are_refused(bad):
    with pytest.raises(ConfigError, match=next(iter(bad))):
        create_model("posemamba_tiny", **bad)


def test_weights_of_another_scan_are_refused_though_their_shapes_fit(tmp_path, recwarn):
    published, other = (create_model("posemamba_tiny", frames=9, scan=scan) for scan in (SCANS[0], "v2"))
    for name, model in {"published": published, "other": other}.items():
        save_weights(tmp_path / name, model, {})
    load_checkpoint(published, tmp_path / "published")
    load_checkpoint(other, tmp_path / "other")
    assert not recwarn.list
    with pytest.raises(CheckpointError, match="scan=v2, not the default"):
        load_checkpoint(published, tmp_path / "other")
    with pytest.warns(UserWarning, match="scan=v2"):  # as an official file, this one notes nothing
        load_checkpoint(other, tmp_path / "published")


def test_refusals_name_expected_and_found():
    model = create_model("posemamba_tiny", frames=9)
    for x, words in {
        torch.rand(1, 10, 17, 2): r"1 to 9 frames, input has 10.*\(1, 10, 17, 2\).*frames=T",
        torch.rand(1, 9, 16, 2): r"17 joints, input has 16",
        torch.rand(1, 9, 17, 4): r"2 \(x, y\) or 3 .*, input has 4",
        torch.rand(9, 17, 2): r"\(batch, frames, 17 joints.*\(9, 17, 2\)",
    }.items():
        with pytest.raises(ShapeError, match=words):
            model(x)
    with pytest.raises(ShapeError, match="input has 2"):
        create_model("posemamba_tiny", channels=3, frames=9)(torch.rand(1, 9, 17, 2))


def test_confidence_switch():
    torch.manual_seed(0)
    model, x = create_model("posemamba_tiny", channels=3, frames=9).eval(), torch.rand(1, 4, 17, 3)
    assert model.Spatial_patch_to_embedding.weight.shape == (32, 3)
    assert not torch.equal(model(x), model(x * torch.tensor([1, 1, 0.5])))


def test_gradients_share_the_forward_and_differ_backward():
    gradients = []
    for gradient in ("exact", "official"):
        torch.manual_seed(0)
        model, x = create_model("posemamba_tiny", gradient=gradient, frames=9).eval(), torch.rand(1, 3, 17, 2)
        y = model(x.requires_grad_())
        y.square().sum().backward()
        gradients.append((y.detach(), x.grad))
    assert torch.equal(gradients[0][0], gradients[1][0])
    assert not torch.allclose(gradients[0][1], gradients[1][1], rtol=1e-3)


@torch.no_grad()
def test_initialisation():
    torch.manual_seed(0)
    model = create_model("posemamba_s")
    assert not model.Spatial_pos_embed.any() and not model.Temporal_pos_embed.any()
    for block in (model.STEblocks[0], model.TTEblocks[9]):
        op = block.op
        torch.testing.assert_close(-op.A_logs.exp(), -torch.arange(1.0, 17).expand(512, 16))
        assert (op.Ds == 1).all()
        dt = F.softplus(op.dt_projs_bias)
        assert 1e-3 * 0.999 < dt.min() < 1.2e-3 and 0.08 < dt.max() < 0.1001
        assert abs(dt.log().mean() - math.log(1e-2)) < 0.2  # log-uniform
        for weight, bound in ((op.dt_projs_weight, 4**-0.5), (op.x_proj_weight, 128**-0.5)):
            assert 0.95 * bound < weight.abs().max() <= bound
    rates = [block.drop_path.rate for block in model.STEblocks]
    assert rates == pytest.approx([0.2 * i / 9 for i in range(10)])
    assert rates == [block.drop_path.rate for block in model.TTEblocks]
    assert [create_model("posemamba_tiny", depth=1).STEblocks[0].drop_path.rate] == [0.0]
    assert model.STEblocks[0].norm.eps == model.Spatial_norm.eps == model.Temporal_norm.eps == 1e-6
    assert model.STEblocks[0].op.out_norm.eps == model.head[0].eps == 1e-5


def test_order_tables_are_kept_once_and_outside_the_state_dict():
    model = create_model("posemamba_tiny", frames=9)
    x = torch.rand(1, 4, 17, 2)
    with torch.inference_mode():
        model(x)
    table = scan_orders("v2_plus_poselimbs", 4, 17, like=x)
    assert table is scan_orders("v2_plus_poselimbs", 4, 17, like=x)
    assert table.shape == (4, 68) and not table.is_inference()
    assert torch.equal(table.sort(dim=1).values, torch.arange(68).expand(4, 68))
    model(x).sum().backward()  # tables first made in inference mode serve training
    assert not list(model.buffers())
    assert set(model.state_dict()) == {name for name, _ in model.named_parameters()}


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_a_compiled_model_builds_and_checks_its_orders_once(monkeypatch, mode):
    built, checked, order, scatter = [], [], ss2d._order, torch.Tensor.scatter_
    monkeypatch.setattr(ss2d, "_order", lambda *inputs: (built.append(1), order(*inputs))[1])
    monkeypatch.setattr(torch.Tensor, "scatter_", lambda *inputs: (checked.append(1), scatter(*inputs))[1])
    ss2d._kept_orders.cache_clear()
    torch._dynamo.reset()
    model, x = create_model("posemamba_tiny", frames=9, depth=2).eval(), torch.rand(1, 5, 17, 2)
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    with mode():
        outputs = [compiled(x).detach() for _ in range(3)]
        assert len(built) == 4 and not checked  # four directions, one table for all blocks and calls
        torch.testing.assert_close(outputs[2], model(x).detach(), rtol=0, atol=2e-6)


def test_traced_tables_are_not_kept():
    with FakeTensorMode():
        assert create_model("posemamba_tiny", frames=9)(torch.rand(2, 7, 17, 2)).shape == (2, 7, 17, 3)
    with torch.device("meta"):
        assert create_model("posemamba_tiny", frames=9)(torch.rand(2, 7, 17, 2)).shape == (2, 7, 17, 3)
    assert torch.isfinite(create_model("posemamba_tiny", frames=9)(torch.rand(2, 7, 17, 2))).all()


@torch.no_grad()
def test_half_precision_keeps_the_state_in_float32():
    torch.manual_seed(0)
    model, x = create_model("posemamba_tiny", frames=27).eval(), torch.rand(1, 27, 17, 2)
    expected = model(x)
    half = model.bfloat16()(x.bfloat16())
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.float(), expected, rtol=0.1, atol=0.1)


@pytest.mark.parametrize(
    ("name", "parameters", "frames", "contractions", "scan"),
    [
        ("posemamba_s", 1_470_211, 27, 574_741_440, 681_523_200),
        ("posemamba_s", 1_470_211, 81, 1_724_224_320, 2_044_569_600),
        ("posemamba_s", 1_470_211, 243, 5_172_672_960, 6_133_708_800),
        ("posemamba_b", 4_742_659, 27, 1_976_711_040, 1_363_046_400),
        ("posemamba_b", 4_742_659, 243, 17_790_399_360, 12_267_417_600),
        ("posemamba_l", 9_450_499, 27, 3_953_128_320, 2_726_092_800),
        ("posemamba_l", 9_450_499, 81, 11_859_384_960, 8_178_278_400),
        ("posemamba_l", 9_450_499, 243, 35_578_154_880, 24_534_835_200),
        ("posemamba_x", 33_318_915, 243, None, None),
        ("motionbert_lite", 16_001_549, 27, 7_386_418_944, 0),
        ("motionbert_lite", 16_001_549, 81, 22_539_969_792, 0),
        ("motionbert_lite", 16_001_549, 243, 71_046_326_016, 0),
        ("motionbert", 42_466_317, 27, 19_585_096_704, 0),
        ("motionbert", 42_466_317, 81, 59_516_716_032, 0),
        ("motionbert", 42_466_317, 243, 185_402_981_376, 0),
    ],
)
def test_closed_forms_equal_the_counts_of_the_official_modules(name, parameters, frames, contractions, scan):
    """Counts of the official code by other means (parameters, matrix products; scan by the repository's formula)."""
    cost = closed_form(component(name), frames)
    assert cost["parameters"] == parameters
    if contractions is not None:
        assert (cost["contractions"], cost["scan"]) == (contractions, scan)
