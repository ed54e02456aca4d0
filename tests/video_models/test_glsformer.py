"""GLSFormer: GLSMamba with other mixers and nothing else changed, fused or naive the same numbers."""

import pytest
import torch
from small_video_models import SMALL, SMALL_ATTENTION, away_from_special_starts, on_meta

from baselines.glsformer.network import GLSFormer, NarrowAttention, Windowed
from posescale.errors import ConfigError
from posescale.measure.cost import cost
from posescale.models import create_model

KINDS = ["j", "d"]


def _small(kind: str, **overrides) -> GLSFormer:
    options = {"stem": "patch", **SMALL, **SMALL_ATTENTION, **overrides}
    return create_model(f"glsformer_{kind}_tiny", **options)


def _clips(batch, model) -> torch.Tensor:
    return torch.randn(batch, model.frames, 3, model.height, model.width)


def _plain_attention(layer: NarrowAttention, x: torch.Tensor) -> torch.Tensor:
    """Token by token, head by head, of (N, E)."""
    q, k, v = (x @ w.T for w in layer.qkv.weight.chunk(3))
    size, heads = q.shape[1] // layer.heads, []
    for h in range(layer.heads):
        own = slice(h * size, (h + 1) * size)
        heads.append(((q[:, own] @ k[:, own].T) / size**0.5).softmax(-1) @ v[:, own])
    return torch.cat(heads, dim=1) @ layer.proj.weight.T


@pytest.mark.parametrize("kind", KINDS)
class TestGLSFormer:
    @pytest.mark.parametrize("size", ["tiny", "b"])
    def test_only_the_mixers_differ_from_glsmamba(self, kind, size):
        def outside(model):
            return {name: entry.shape for name, entry in model.state_dict().items() if ".mixer." not in name}

        def trained(model):
            return sum(p.numel() for p in model.parameters() if p.requires_grad)

        ours, scans = on_meta(f"glsformer_{kind}_{size}"), on_meta(f"glsmamba_{size}")
        assert outside(ours) == outside(scans) and list(outside(ours)) == list(outside(scans))
        assert abs(trained(ours) / trained(scans) - 1) < 0.03

    @pytest.mark.parametrize("frames", [1, 2, 3, 5])
    @pytest.mark.parametrize("size", [(32, 48), (48, 80)])  # the second leaves windows half empty
    def test_shapes_and_gradients(self, kind, frames, size):
        model = away_from_special_starts(_small(kind, frames=frames, height=size[0], width=size[1]))
        y = model(_clips(2, model))
        assert y.shape == (2, 4, size[0] // 4, size[1] // 4)
        y.square().sum().backward()
        for name, parameter in model.named_parameters():
            assert parameter.grad is not None and torch.isfinite(parameter.grad).all(), name

    @torch.no_grad()
    @pytest.mark.parametrize("size", [(32, 48), (48, 80)])
    def test_fused_and_naive_give_the_same_numbers(self, kind, size):
        torch.manual_seed(0)
        fused = away_from_special_starts(_small(kind, height=size[0], width=size[1])).double().eval()
        naive = _small(kind, height=size[0], width=size[1], attention="naive").double().eval()
        naive.load_state_dict(fused.state_dict())
        x = _clips(2, fused).double()
        torch.testing.assert_close(naive(x), fused(x), rtol=1e-9, atol=1e-11)

    @pytest.mark.parametrize(
        "options", [{}, {"attention": "naive"}, {"stride": 16}, {"width": 80, "stem": "conv"}], ids=str
    )
    def test_every_option_is_counted(self, kind, options):
        size = {key: value for key, value in SMALL.items() if key != "frames"}
        record = cost(f"glsformer_{kind}_tiny", 3, **{"stem": "patch", **size, **SMALL_ATTENTION, **options})
        assert record.status == "ok" and record.options["routes"] == ["dispatch", "closed form"], record.reason

    @pytest.mark.parametrize(
        ("wrong", "words"),
        [
            ({"mixer": "axial"}, "mixer.*'axial'"),
            ({"attention": "flash"}, "attention.*'flash'"),
            ({"attention_heads": 6}, "found (8 and 6|4 and 3)"),
            ({"window_width": 0}, "found 4 x 0"),
            ({"height": 24}, "multiples of 16.*height=24"),
            ({"frames": 0}, "at least 1, found 0"),
        ],
    )
    def test_wrong_arguments_are_refused_in_words(self, kind, wrong, words):
        with pytest.raises(ConfigError, match=words):
            _small(kind, **wrong)


def test_divided_attention_needs_two_halves():
    with pytest.raises(ConfigError, match="both must be even, found 9 and 3"):
        _small("d", attention_heads=3, attention_width=9)


@torch.no_grad()
def test_joint_attention_is_over_all_tokens_of_a_clip():
    torch.manual_seed(0)
    mixer, u = _small("j").global_blocks[0].mixer.double(), torch.randn(2, 3, 4, 5, 16).double()
    expected = torch.stack([_plain_attention(mixer.attention, clip.flatten(0, 2)) for clip in u]).view_as(u)
    torch.testing.assert_close(mixer(u), expected, rtol=1e-10, atol=1e-12)


@torch.no_grad()
def test_divided_attention_is_over_a_frame_then_over_a_pixel():
    torch.manual_seed(0)
    mixer, u = _small("d").global_blocks[0].mixer.double(), torch.randn(2, 3, 4, 5, 16).double()
    inside = torch.stack([torch.stack([_plain_attention(mixer.spatial, frame.flatten(0, 1)).view_as(frame)
                                       for frame in clip]) for clip in u])  # fmt: skip
    inside, expected = u + inside, torch.empty_like(u)
    for b in range(2):
        for h in range(4):
            for w in range(5):
                expected[b, :, h, w] = _plain_attention(mixer.temporal, inside[b, :, h, w])
    torch.testing.assert_close(mixer(u), expected, rtol=1e-10, atol=1e-12)


@torch.no_grad()
@pytest.mark.parametrize("kernel", ["fused", "naive"])
@pytest.mark.parametrize("grid", [(3, 4, 6), (2, 5, 7), (1, 1, 2)])
def test_window_attention_never_listens_to_padding(kernel, grid):
    torch.manual_seed(0)
    mixer, u = Windowed(grid, (2, 3), 8, 4, 2, kernel).double(), torch.randn(2, *grid, 8).double()
    expected = torch.empty_like(u)
    for b in range(2):
        for top in range(0, grid[1], 2):
            for left in range(0, grid[2], 3):
                part = u[b, :, top : top + 2, left : left + 3]
                mixed = _plain_attention(mixer.attention, part.flatten(0, 2)).view_as(part)
                expected[b, :, top : top + 2, left : left + 3] = mixed
    torch.testing.assert_close(mixer(u), expected, rtol=1e-10, atol=1e-12)


def test_mixers_of_the_spec_s_size():
    """0.295 M weights in each mixer at width 192; joint and divided the same."""
    for kind in KINDS:
        model = on_meta(f"glsformer_{kind}_b")
        for block in (*model.global_blocks, *model.local_blocks):
            assert sum(p.numel() for p in block.mixer.parameters()) == 4 * 384 * 192


def test_attention_of_the_joint_model_grows_with_the_square_of_the_tokens():
    """362.4 GMAC of products in the four global mixers at 15,360 tokens; divided, half the width over fewer tokens."""

    def products(name, frames):
        figures = {(v.name, v.convention): v.value for v in cost(name, frames, attention="naive").values}
        return figures["macs", "contractions"]

    joint, divided = products("glsformer_j_b", 5), products("glsformer_d_b", 5)
    pairs = 2 * 15_360 * 192 * 4
    assert joint - divided == pairs * 15_360 - pairs * (3_072 + 5) // 2
    assert round(pairs * 15_360 / 1e9, 1) == 362.4
