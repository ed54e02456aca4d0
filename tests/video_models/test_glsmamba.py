"""GLSMamba: its sizes against the published and the calibrated counts, and what each part promises."""

import pytest
import torch
import torch.nn.functional as F
from small_video_models import SMALL, SMALL_SCAN, away_from_special_starts, layer_macs, on_meta
from torch.utils._python_dispatch import TorchDispatchMode

from models.glsmamba.network import STMM, WSTS, GLSMamba
from posescale.checkpoints import load_checkpoint, save_weights
from posescale.errors import CheckpointError, ConfigError, ShapeError
from posescale.layers.s6 import S6Paths
from posescale.measure.cost import cost
from posescale.models import create_model

OPTIONS = [
    {},
    {"merging": "sum"},
    {"guide": "unified_and_stream", "deform_groups": 16},
    {"paths": 4, "unified_pair": "h_v"},
    {"paths": 2, "unified_pair": "h_flip_h"},
    {"share_s6": True},
    {"stride": 16, "window_height": 2, "window_width": 2},
    {"reset_state": True},
    {"stem": "conv"},
]


def _small(**overrides) -> GLSMamba:
    return create_model("glsmamba_tiny", **{"stem": "patch", **SMALL, **SMALL_SCAN, **overrides})


def _trained(model) -> int:
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def _clips(batch, model) -> torch.Tensor:
    return torch.randn(batch, model.frames, 3, model.height, model.width)


# ---- sizes ------------------------------------------------------------------------------------------------------

CALIBRATED = [  # overrides, trained parameters in millions, GMAC of Linear and convolution layers
    ("glsmamba_b", {}, 9.94, 139.9),
    ("glsmamba_b", {"merging": "sum"}, 9.16, 138.2),
    ("glsmamba_b", {"share_s6": True}, 9.31, 139.9),
    ("glsmamba_b", {"share_s6": True, "reduction": 4}, 10.23, 139.9),
    ("glsmamba_s", {}, 8.36, 76.9),
    ("glsmamba_h", {}, 12.03, 664.7),
]


@pytest.mark.parametrize(("name", "overrides", "millions", "gmac"), CALIBRATED)
def test_calibrated_table(name, overrides, millions, gmac):
    model = on_meta(name, **overrides)
    assert round(_trained(model) / 1e6, 2) == millions
    assert round(layer_macs(model, _clips(1, model).to("meta")) / 1e9, 1) == gmac


def test_calibration_stays_near_the_published_counts():
    """9.8 M trained, 138.9 G; without STMM 9.1 M, 137.4 G."""
    for overrides, millions, gmac in (({}, 9.8, 138.9), ({"merging": "sum"}, 9.1, 137.4)):
        model = on_meta("glsmamba_b", **overrides)
        assert abs(_trained(model) / 1e6 / millions - 1) < 0.02
        assert abs(layer_macs(model, _clips(1, model).to("meta")) / 1e9 / gmac - 1) < 0.01


def test_parameters_by_part():
    model = on_meta("glsmamba_b")
    gsm, lrm = model.global_blocks[0], model.local_blocks[0]
    sizes = {
        "gsm": gsm,
        "lrm": lrm,
        "scans": gsm.mixer.s6,
        "stmm": gsm.mixer.stmm,
        "sca": gsm.channel_attention,
        "deconvolutions": model.encoder.keypoint_head,
    }
    assert {name: sum(p.numel() for p in part.parameters()) for name, part in sizes.items()} == {
        "gsm": 1_124_142,
        "lrm": 583_872,
        "scans": 6 * 28_416,
        "stmm": 195_126,
        "sca": 231_480,
        "deconvolutions": 4_195_328,
    }


def test_blocks_on_the_vit_s_own_tokens():
    """85.25 GMAC without STMM, plus 0.96 of the key frame's deconvolutions and 0.11 of the finer head."""
    model = on_meta("glsmamba_b", stride=16, merging="sum")
    macs = layer_macs(model, _clips(1, model).to("meta")) / 1e9
    assert macs == pytest.approx(85.25 + 0.956 + 0.106, abs=0.02)


def test_cost_record_adds_what_the_paper_s_count_leaves_out():
    record = cost("glsmamba_b", 5)
    assert record.status == "ok", record.reason
    assert record.options["routes"] == ["dispatch", "instrumented", "closed form"]
    assert record.options["counted_on"] == "meta" and tuple(record.resolution) == (256, 192)
    figures = {(v.name, v.convention): v.value for v in record.values}
    tokens, inner = 15_360, 384
    attention = 5 * 12 * 2 * 192**2 * 768  # q k and the weighted sum of v, each frame
    projections = (4 * 6 + 2 * 2) * tokens * inner * (12 + 2 * 16 + 12)
    deformed = 4 * 2 * tokens * inner * (inner // 16) * 9
    layers = figures["macs", "contractions"] - attention - projections - deformed
    assert round(layers / 1e9, 1) == 139.9
    assert round(attention / 1e9, 2) == 3.40 and round(projections / 1e9, 2) == 9.25
    assert round(figures["scan_flops", "9N+1"] / 1e9, 2) == 23.95
    assert round(figures["parameters_trainable", "unique"] / 1e6, 2) == 9.94


class _Largest(TorchDispatchMode):
    def __init__(self):
        super().__init__()
        self.numel = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        tensors = out if isinstance(out, (tuple, list)) else (out,)
        self.numel = max([self.numel, *(t.numel() for t in tensors if isinstance(t, torch.Tensor))])
        return out


def test_no_tensor_holds_every_state_of_a_scan():
    model = on_meta("glsmamba_b")
    with torch.no_grad(), _Largest() as largest:
        model(_clips(1, model).to("meta"))
    assert 0 < largest.numel < 384 * 15_360 * 16


# ---- shapes and gradients ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("frames", [1, 2, 3, 5])
@pytest.mark.parametrize("size", [(32, 48), (96, 64), (48, 16)])
def test_shapes_and_gradients(frames, size):
    model = away_from_special_starts(_small(frames=frames, height=size[0], width=size[1]))
    y = model(_clips(2, model))
    assert y.shape == (2, 4, size[0] // 4, size[1] // 4)
    y.square().sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and torch.isfinite(parameter.grad).all(), name
        assert parameter.grad.abs().sum() > 0 or "channel_attention" in name, name


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_every_option_is_counted_and_trains(options):
    size = {key: value for key, value in SMALL.items() if key != "frames"}
    record = cost("glsmamba_tiny", 3, **{"stem": "patch", **size, **SMALL_SCAN, **options})
    assert record.status == "ok" and "closed form" in record.options["routes"], record.reason
    model = away_from_special_starts(_small(**options))
    y = model(_clips(1, model))
    assert y.shape == (1, 4, 8, 12)
    y.square().sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters())


@torch.no_grad()
def test_every_frame_reaches_the_key_frame_s_heat_maps():
    torch.manual_seed(0)
    model = away_from_special_starts(_small(frames=4)).eval()
    x = _clips(1, model)
    y = model(x)
    for t in range(4):
        other = x.clone()
        other[:, t] += 1
        assert (model(other) - y).abs().max() > 1e-6


@torch.no_grad()
def test_in_bfloat16():
    torch.manual_seed(0)
    model = _small().eval()
    torch.nn.init.normal_(model.head.conv.weight)
    x = _clips(2, model)
    expected = model(x)
    y = model.bfloat16()(x.bfloat16())
    assert y.dtype == torch.bfloat16
    assert (y.float() - expected).norm() < 0.05 * expected.norm()


def test_a_frozen_model_compiles():
    torch.compiler.reset()
    torch.manual_seed(0)
    model = _small(frozen="vit").eval()
    x = _clips(1, model)
    expected = model(x)
    y = torch.compile(model, backend="aot_eager")(x)
    torch.testing.assert_close(y, expected, rtol=1e-4, atol=1e-5)
    y.sum().backward()
    assert model.encoder.backbone.pos_embed.grad is None and model.embed.weight.grad is not None
    torch.compiler.reset()


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"height": 40}, "multiples of 16.*height=40"),
        ({"width": 0}, "multiples of 16.*width=0"),
        ({"frames": 0}, "at least 1, found 0"),
        ({"frames": 2.0}, "at least 1, found 2.0"),
        ({"dim": 6}, "multiple of 4.*found 6"),
        ({"paths": 5}, "paths must be .*found 5"),
        ({"unified_pair": "v"}, "unified_pair.*'v'"),
        ({"merging": "max"}, "merging.*'max'"),
        ({"guide": "all"}, "guide.*'all'"),
        ({"stride": 8}, "stride.*found 8"),
        ({"stem": "mlp"}, "stem.*'mlp'"),
        ({"frozen": True}, "frozen.*True"),
        ({"attention": "flash"}, "attention.*'flash'"),
        ({"deform_groups": 3}, "divide its 16 channels, found 3"),
        ({"window_height": 0}, "at least 1 x 1 tokens, found 0 x 6"),
        ({"reset_state": True, "window_height": 3}, "8 x 12 tokens"),
        ({"reduction": 1000}, "found 1000"),
    ],
)
def test_wrong_arguments_are_refused_in_words(wrong, words):
    with pytest.raises(ConfigError, match=words):
        _small(**wrong)


@pytest.mark.parametrize("shape", [(1, 2, 3, 32, 48), (1, 3, 3, 48, 32), (1, 3, 1, 32, 48), (3, 3, 32, 48)])
def test_other_clips_are_refused_in_words(shape):
    with pytest.raises(ShapeError) as refusal:
        _small()(torch.zeros(shape))
    assert str(shape) in str(refusal.value) and "height 32" in str(refusal.value)


# ---- the encoder ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("frozen", "parts"),
    [("nothing", ()), ("vit", ("backbone.",)), ("vit_and_deconv", ("backbone.", "keypoint_head."))],
)
def test_a_frozen_encoder_has_no_gradients_and_never_changes(frozen, parts):
    torch.manual_seed(0)
    model = _small(frozen=frozen, stem="conv").train()
    before = {name: entry.clone() for name, entry in model.encoder.state_dict().items()}
    optimizer = torch.optim.SGD((p for p in model.parameters() if p.requires_grad), lr=0.1)
    x = _clips(2, model).requires_grad_()
    model(x).square().sum().backward()
    optimizer.step()
    for name, parameter in model.encoder.named_parameters():
        still = name.startswith(parts) if parts else False
        assert parameter.requires_grad != still and (parameter.grad is None) == still, name
    assert (x.grad is None) == bool(parts)
    moved = {name for name, entry in model.encoder.state_dict().items() if not torch.equal(entry, before[name])}
    statistics = {name for name in before if "running_" in name}  # of batch norms, in the stem and the deconvolutions
    if parts:
        assert not {name for name in moved if name.startswith(parts)}
        statistics = {name for name in statistics if not name.startswith(parts)}
    assert statistics <= moved
    assert model.embed.weight.grad.abs().sum() > 0


@torch.no_grad()
def test_it_starts_from_a_vitpose():
    model = on_meta("glsmamba_b").to_empty(device="cpu")
    vitpose = on_meta("vitpose_b").to_empty(device="cpu")
    for entry in vitpose.state_dict().values():
        entry.copy_(torch.full_like(entry, 3))
    model.start_from(vitpose.state_dict())
    assert all((entry == 3).all() for entry in model.encoder.state_dict().values())
    coarse = _small(stride=16, window_height=2, window_width=2)
    other = create_model("vitpose_tiny", **{k: v for k, v in SMALL.items() if k in VITPOSE})
    with pytest.raises(CheckpointError, match="backbone.patch_embed"):
        coarse.start_from(other.state_dict())  # another stem
    other = create_model("vitpose_tiny", stem="patch", **{k: v for k, v in SMALL.items() if k in VITPOSE})
    coarse.start_from(other.state_dict())
    assert torch.equal(coarse.encoder.backbone.pos_embed, other.backbone.pos_embed)
    with pytest.raises(CheckpointError, match="backbone.blocks.1"):
        coarse.start_from(create_model("vitpose_tiny", stem="patch", **{
            k: v for k, v in (SMALL | {"vit_depth": 2}).items() if k in VITPOSE}).state_dict())  # fmt: skip


VITPOSE = ("height", "width", "joints", "vit_dim", "vit_depth", "vit_heads", "decoder")


# ---- the mixers -------------------------------------------------------------------------------------------------


@torch.no_grad()
def test_stmm_starts_as_the_plain_sum():
    torch.manual_seed(0)
    model = _small().eval()
    plain = _small(merging="sum").eval()
    missing, unexpected = plain.load_state_dict(model.state_dict(), strict=False)
    assert not missing and all(".stmm." in name for name in unexpected)
    x = _clips(2, model)
    torch.testing.assert_close(model(x), plain(x), rtol=1e-4, atol=1e-6)


@torch.no_grad()
@pytest.mark.parametrize("guide", ["stream", "unified_and_stream"])
def test_stmm_deforms_every_stream_but_the_unified_one(guide):
    torch.manual_seed(0)
    stmm = away_from_special_starts(STMM(8, 3, guide, 2)).double()
    streams = torch.randn(2, 3, 4, 5, 6, 8).double()  # B, streams, T, h, w, E
    expected = streams[:, 0].clone()
    for i, deform in enumerate(stmm.deform, start=1):
        for b in range(2):
            guides = streams[b, i] + (streams[b, 0] if guide == "unified_and_stream" else 0)
            for t in range(4):
                image, seen = streams[b, i, t].permute(2, 0, 1)[None], guides[t].permute(2, 0, 1)[None]
                expected[b, t] += deform(image, seen)[0].permute(1, 2, 0)
    torch.testing.assert_close(stmm(streams), expected, rtol=1e-11, atol=1e-11)


@torch.no_grad()
def test_a_block_is_its_formula():
    torch.manual_seed(0)
    block = away_from_special_starts(_small()).global_blocks[0].double()
    x = torch.randn(2, 3, 8, 12, 8).double()

    def conv(layer, v):
        images = (clip.permute(0, 3, 1, 2) for clip in v)
        done = (F.conv2d(image, layer.weight, layer.bias, padding=1, groups=16) for image in images)
        return torch.stack([frames.permute(0, 2, 3, 1) for frames in done])

    n = block.norm(x)
    u = F.silu(conv(block.conv_in, (block.channel_attention(n) * n) @ block.proj_in.weight.T))
    gate = F.silu(block.norm_gate(conv(block.conv_gate, n @ block.proj_gate.weight.T)))
    y = x + (block.norm_mixed(block.mixer(u)) * gate) @ block.proj_out.weight.T
    expected = y + block.ffn(block.norm_ffn(y))
    torch.testing.assert_close(block(x), expected, rtol=1e-10, atol=1e-10)


@torch.no_grad()
@pytest.mark.parametrize("reset_state", [False, True])
def test_windows_hear_each_other_unless_the_state_is_reset(reset_state):
    torch.manual_seed(0)
    grid, window = (2, 4, 6), (2, 3)
    mixer = WSTS(grid, S6Paths(4, 1, 2, 2), window, reset_state)
    mixer.s6.dt_projs_bias.fill_(-4.0)  # a long memory
    u = torch.randn(1, *grid, 4)
    other = u.clone()
    other[:, :, :2, :3] += 1  # the first window
    changed = (mixer(other) - mixer(u)).abs().sum((0, 1, 4)) > 1e-7
    expected = torch.zeros(4, 6, dtype=torch.bool)
    expected[:2, :3] = True
    assert torch.equal(changed, expected) if reset_state else changed.all()


def test_weights_of_another_configuration_are_refused(tmp_path):
    save_weights(tmp_path / "weights.pt", _small(unified_pair="h_v"), {})
    with pytest.raises(CheckpointError, match="unified_pair=h_v"):
        load_checkpoint(_small(), tmp_path / "weights.pt")
    save_weights(tmp_path / "turned.pt", _small(height=48, width=32), {})
    with pytest.raises(CheckpointError, match="height=48"):
        load_checkpoint(_small(), tmp_path / "turned.pt")
    load_checkpoint(_small(unified_pair="h_v"), tmp_path / "weights.pt")
    shared = {"share_s6": True, "merging": "sum"}
    save_weights(tmp_path / "four.pt", _small(paths=4, **shared), {})
    with pytest.raises(CheckpointError, match="paths=4"):
        load_checkpoint(_small(**shared), tmp_path / "four.pt")
