"""ViTPose: the official names and sizes, the key frame alone, one image worked out by hand."""

import pytest
import torch
import torch.nn.functional as F
from small_video_models import away_from_special_starts, layer_macs, on_meta

from posescale.checkpoints import load_checkpoint
from posescale.errors import CheckpointError, ConfigError
from posescale.models import create_model

TINY = {"height": 32, "width": 48, "vit_dim": 16, "vit_depth": 2, "vit_heads": 4, "decoder": 8, "stem": "patch"}

# Official entries and their shapes for width 16, 2 blocks, 2 x 3 patches, 8 filters, 17 joints.
NORM, BATCH_NORM = ("weight", "bias"), ("weight", "bias", "running_mean", "running_var")
OFFICIAL = {
    "backbone.pos_embed": (1, 7, 16),
    "backbone.patch_embed.proj.weight": (16, 3, 16, 16),
    "backbone.patch_embed.proj.bias": (16,),
}
for _i in range(2):
    OFFICIAL |= {f"backbone.blocks.{_i}.norm1.{n}": (16,) for n in NORM}
    OFFICIAL |= {f"backbone.blocks.{_i}.attn.qkv.weight": (48, 16), f"backbone.blocks.{_i}.attn.qkv.bias": (48,)}
    OFFICIAL |= {f"backbone.blocks.{_i}.attn.proj.weight": (16, 16), f"backbone.blocks.{_i}.attn.proj.bias": (16,)}
    OFFICIAL |= {f"backbone.blocks.{_i}.norm2.{n}": (16,) for n in NORM}
    OFFICIAL |= {f"backbone.blocks.{_i}.mlp.fc1.weight": (64, 16), f"backbone.blocks.{_i}.mlp.fc1.bias": (64,)}
    OFFICIAL |= {f"backbone.blocks.{_i}.mlp.fc2.weight": (16, 64), f"backbone.blocks.{_i}.mlp.fc2.bias": (16,)}
OFFICIAL |= {f"backbone.last_norm.{n}": (16,) for n in NORM}
for _i, _before in ((0, 16), (3, 8)):
    OFFICIAL[f"keypoint_head.deconv_layers.{_i}.weight"] = (_before, 8, 4, 4)
    OFFICIAL |= {f"keypoint_head.deconv_layers.{_i + 1}.{n}": (8,) for n in BATCH_NORM}
    OFFICIAL[f"keypoint_head.deconv_layers.{_i + 1}.num_batches_tracked"] = ()
OFFICIAL |= {"keypoint_head.final_layer.weight": (17, 8, 1, 1), "keypoint_head.final_layer.bias": (17,)}


def _official_weights() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {
        name: torch.tensor(7) if shape == () else torch.rand(shape, generator=generator) + 0.1
        for name, shape in OFFICIAL.items()
    }


def _model(**overrides):
    return create_model("vitpose_b", **{**TINY, **overrides}).eval()


def test_names_shapes_and_order_are_the_official_ones():
    assert {name: tuple(entry.shape) for name, entry in _model().state_dict().items()} == OFFICIAL
    assert list(_model().state_dict()) == list(OFFICIAL)


@pytest.mark.filterwarnings("error::UserWarning")
def test_an_official_file_loads(tmp_path):
    weights = _official_weights()
    torch.save({"meta": {"epoch": 210}, "state_dict": weights}, tmp_path / "vitpose.pth")
    model = _model()
    model.hidden_settings = {}  # as at 256 x 192, for which official files are made
    load_checkpoint(model, tmp_path / "vitpose.pth")
    assert all(torch.equal(entry, weights[name]) for name, entry in model.state_dict().items())
    with pytest.raises(CheckpointError, match="final_layer"):
        load_checkpoint(_model(joints=15), tmp_path / "vitpose.pth")
    assert all(on_meta(f"vitpose_{size}").hidden_settings == {} for size in "sblh")


@torch.no_grad()
def test_one_image_by_hand():
    model = _model(drop_path=0.3).double()
    w = {name: entry.double() for name, entry in _official_weights().items()}
    model.load_state_dict(w)
    image = torch.randn(1, 1, 3, 32, 48).double()

    def norm(x, name, eps=1e-6):
        x = (x - x.mean(-1, keepdim=True)) / (x.var(-1, keepdim=True, unbiased=False) + eps).sqrt()
        return x * w[f"{name}.weight"] + w[f"{name}.bias"]

    def linear(x, name):
        return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]

    padded = F.pad(image[0], (2, 2, 2, 2))  # the official padding of 2 shifts every patch by two pixels
    patches = [padded[0, :, 16 * r : 16 * r + 16, 16 * c : 16 * c + 16].flatten() for r in range(2) for c in range(3)]
    x = torch.stack(patches) @ w["backbone.patch_embed.proj.weight"].flatten(1).T + w["backbone.patch_embed.proj.bias"]
    x = x + w["backbone.pos_embed"][0, 1:] + w["backbone.pos_embed"][0, 0]
    for i in range(2):
        block = f"backbone.blocks.{i}"
        q, k, v = linear(norm(x, f"{block}.norm1"), f"{block}.attn.qkv").view(6, 3, 4, 4).permute(1, 2, 0, 3)
        mixed = ((q @ k.mT) / 2).softmax(-1) @ v
        x = x + linear(mixed.transpose(0, 1).reshape(6, 16), f"{block}.attn.proj")
        x = x + linear(F.gelu(linear(norm(x, f"{block}.norm2"), f"{block}.mlp.fc1")), f"{block}.mlp.fc2")
    y = norm(x, "backbone.last_norm").T.reshape(1, 16, 2, 3)
    for i in (0, 3):
        y = F.conv_transpose2d(y, w[f"keypoint_head.deconv_layers.{i}.weight"], stride=2, padding=1)
        mean, var, scale, shift = (w[f"keypoint_head.deconv_layers.{i + 1}.{n}"][:, None, None]
                                   for n in ("running_mean", "running_var", "weight", "bias"))  # fmt: skip
        y = ((y - mean) / (var + 1e-5).sqrt() * scale + shift).relu()
    y = F.conv2d(y, w["keypoint_head.final_layer.weight"], w["keypoint_head.final_layer.bias"])
    torch.testing.assert_close(model(image), y, rtol=1e-9, atol=1e-9)


@torch.no_grad()
def test_only_the_key_frame_is_read():
    torch.manual_seed(0)
    for frames, key in ((1, 0), (2, 1), (5, 2)):
        model = away_from_special_starts(_model(frames=frames)).eval()
        alone = _model()
        alone.load_state_dict(model.state_dict())
        x = torch.randn(2, frames, 3, 32, 48)
        assert torch.equal(model(x), alone(x[:, key : key + 1]))


@torch.no_grad()
def test_fused_and_naive_give_the_same_numbers():
    torch.manual_seed(0)
    fused = away_from_special_starts(_model()).double()
    naive = _model(attention="naive").double()
    naive.load_state_dict(fused.state_dict())
    x = torch.randn(2, 1, 3, 32, 48).double()
    torch.testing.assert_close(naive(x), fused(x), rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("stem", ["patch", "conv"])
@pytest.mark.parametrize("size", [(32, 48), (16, 16)])
def test_shapes_and_gradients(stem, size):
    model = away_from_special_starts(_model(stem=stem, height=size[0], width=size[1])).train()
    y = model(torch.randn(2, 1, 3, *size))
    assert y.shape == (2, 17, size[0] // 4, size[1] // 4)
    y.square().sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters())


def test_a_frozen_transformer_leaves_a_head_to_train():
    model = _model(frozen="vit_and_deconv").train()
    model(torch.randn(2, 1, 3, 32, 48)).sum().backward()
    assert {n for n, p in model.named_parameters() if p.grad is not None} == {
        "keypoint_head.final_layer.weight",
        "keypoint_head.final_layer.bias",
    }


SIZES = [  # encoder's parameters in millions; GMAC per 256 x 192 image of its layers, and of its attention's products
    ("vitpose_s", 21.6, 4.1, 0.34),
    ("vitpose_b", 85.6, 16.4, 0.68),
    ("vitpose_l", 303, 58.1, 1.81),
    ("vitpose_h", 631, 121.0, 3.02),
]


@pytest.mark.parametrize(("name", "millions", "gmac", "attention"), SIZES)
def test_published_sizes(name, millions, gmac, attention):
    vit = on_meta(name).backbone
    assert sum(p.numel() for p in vit.parameters()) / 1e6 == pytest.approx(millions, rel=3e-3)
    assert layer_macs(vit, torch.empty(1, 3, 256, 192, device="meta")) / 1e9 == pytest.approx(gmac, abs=0.06)
    products = len(vit.blocks) * 2 * 192**2 * vit.last_norm.normalized_shape[0]
    assert products / 1e9 == pytest.approx(attention, abs=0.006)


def test_heads_must_divide_the_width():
    with pytest.raises(ConfigError, match="multiple of heads"):
        _model(vit_heads=3)
