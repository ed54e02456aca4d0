"""What each network is, beyond its goldens: equal forms, refused clips, and the rules that are easy to get wrong."""

import math

import pytest
import torch

from baselines.motionagformer.network import SimilarityGraph, SkeletonGraph, normalise
from baselines.poseformerv2.network import dct, idct
from posescale.checkpoints import load_checkpoint, save_weights
from posescale.errors import CheckpointError, ConfigError, ShapeError
from posescale.models import create_model

TINY = ["motionagformer_tiny", "mixste_tiny", "poseformerv2_tiny", "videopose3d_tiny"]


def _close(a: torch.Tensor, b: torch.Tensor, bound: float = 1e-12) -> None:
    torch.testing.assert_close(a, b, rtol=0, atol=bound)


@torch.no_grad()
@pytest.mark.parametrize("name", TINY[:3])
def test_fused_attention_equals_naive(name, build, clip):
    x = clip(27)
    fused, naive = build(name, frames=27), build(name, frames=27, attention="naive")
    _close(fused(x), naive(x))


@torch.no_grad()
@pytest.mark.parametrize("frames", [2, 9, 30])
def test_dense_normalisation_equals_scaled(build, clip, frames):
    x = clip(frames)
    dense, scaled = (build("motionagformer_tiny", frames=frames, adjacency=how) for how in ("dense", "scaled"))
    _close(dense(x), scaled(x))


def test_normalisation_uses_row_sums_of_an_asymmetric_graph():
    a = torch.tensor([[0.0, 1.0, 1.0], [1.0, 0.0, 0.0], [0.0, 1.0, 1.0]], dtype=torch.float64)
    expected = torch.tensor([[0, 1 / math.sqrt(2), 1 / 2], [1 / math.sqrt(2), 0, 0], [0, 1 / math.sqrt(2), 1 / 2]])
    for how in ("dense", "scaled"):
        _close(normalise(a, how), expected.double(), 1e-7)


def test_skeleton_is_the_published_one():
    bones = SkeletonGraph(4, "dense").bones
    neighbours = [set(row.nonzero().flatten().tolist()) for row in bones]
    assert (neighbours[0], neighbours[4], neighbours[8], neighbours[11]) == ({1, 7}, {5, 0}, {7, 9}, {12, 8})
    assert bones.sum() == 29 and bones.diagonal().sum() == 0
    assert not any("bones" in key for key in create_model("motionagformer_tiny").state_dict())


def test_temporal_graph_takes_the_most_similar_frames_and_all_that_tie():
    graph = SimilarityGraph(2, frames=4, neighbours=2, how="dense")
    z = torch.tensor([[3.0, 0.0], [2.0, 0.0], [2.0, 0.0], [0.0, 1.0]])
    expected = [[1, 1, 1, 0], [1, 1, 1, 0], [1, 1, 1, 0], [1, 1, 1, 1]]
    # rows 1 and 2: similarities 6, 4, 4, 0, second largest 4; row 3: 0, 0, 0, 1, second largest 0
    assert graph.adjacency(z[None, None])[0, 0].tolist() == expected


def test_temporal_graph_carries_no_gradient():
    graph = SimilarityGraph(2, frames=4, neighbours=2, how="dense")
    assert not graph.adjacency(torch.rand(1, 1, 4, 2, requires_grad=True)).requires_grad


@torch.no_grad()
def test_strided_form_equals_dilated_with_the_same_weights(build, clip):
    for frames, causal, widths in [(27, False, None), (27, True, None), (15, False, [3, 5]), (45, True, [5, 3, 3])]:
        chosen = {"frames": frames, "causal": causal, "widths": widths}
        dilated, strided = (build("videopose3d_tiny", form=form, **chosen) for form in ("dilated", "strided"))
        strided.load_state_dict(dilated.state_dict(), strict=True)
        x = clip(frames)
        assert dilated(x).shape == (2, 1, 17, 3)
        _close(dilated(x), strided(x))
        with pytest.raises(ShapeError, match=f"exactly {frames} frames"):
            strided(clip(frames + 1))


@torch.no_grad()
@pytest.mark.parametrize("causal", [False, True])
def test_a_long_clip_gives_the_poses_of_its_windows(build, clip, causal):
    model, x = build("videopose3d_tiny", frames=9, causal=causal), clip(14)
    windows = torch.cat([model(x[:, i : i + 9]) for i in range(6)], dim=1)
    _close(model(x), windows)


@torch.no_grad()
def test_causal_residuals_follow_the_last_frame(build, clip):
    """With the filters silenced only residuals are left: they lead to the middle frame, or to the last."""
    x = clip(27)
    for causal, frame in [(False, 13), (True, 25)]:
        model = build("videopose3d_tiny", frames=27, causal=causal)
        for bn in model.layers_bn:
            bn.weight.zero_(), bn.bias.zero_()
        moved = x.clone()
        moved[:, frame] += 0.5  # the middle of the first filter that the residual leads to
        assert (model(x) - model(moved)).abs().max() > 1e-3
        moved = x.clone()
        moved[:, 19 if not causal else 13] += 0.5
        _close(model(x), model(moved))


def test_cosine_transform_is_the_unnormalised_one_and_its_inverse_inverts():
    for n in (1, 2, 3, 6, 27):
        x = torch.randn(2, n, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(n))
        k, t = torch.arange(n, dtype=torch.float64).view(-1, 1), torch.arange(n).view(1, -1)
        _close(dct(x), 2 * torch.cos(math.pi * k * (2 * t + 1) / (2 * n)) @ x)
        _close(idct(dct(x)), x)
    assert dct(x.bfloat16()).dtype == torch.bfloat16


@torch.no_grad()
@pytest.mark.parametrize(("kept", "coefficients"), [(1, 3), (3, 8), (9, 2), (1, 1), (9, 9)])
def test_poseformerv2_with_unequal_tokens(build, clip, kept, coefficients):
    model, x = build("poseformerv2_tiny", frames=9, kept_frames=kept, coefficients=coefficients), clip(9)
    assert model(x).shape == (2, 1, 17, 3)
    halves = []
    block = model.blocks[0]
    block.norm2.register_forward_hook(lambda _m, i, _o: halves.append(i[0].shape[1]))
    block.norm3.register_forward_hook(lambda _m, i, _o: halves.append(i[0].shape[1]))
    model(x)
    assert halves == [(kept + coefficients) // 2, kept + coefficients - (kept + coefficients) // 2]


@pytest.mark.parametrize("name", TINY)
@pytest.mark.parametrize("frames", [9, 27])
def test_frames_are_honoured_and_others_refused(name, frames, clip):
    model = create_model(name, frames=frames).double().eval()
    assert model(clip(frames)).shape == (2, frames if name in TINY[:2] else 1, 17, 3)
    reason = {
        "motionagformer": "batch norm",
        "mixste": "position vector",
        "poseformerv2": "frequency",
        "videopose3d": "at once",
    }
    with pytest.raises(ShapeError, match=reason[name.removesuffix("_tiny")]) as refusal:
        model(clip(frames - 1))
    assert str(frames) in str(refusal.value) and str(frames - 1) in str(refusal.value)


def test_tiny_motionagformer_at_81_frames(clip):
    model = create_model("motionagformer_tiny", frames=81).double().eval()
    assert model.layers[0].graph_temporal.mixer.batch_norm.num_features == 81
    assert model(clip(81, 1)).shape == (1, 81, 17, 3)


@pytest.mark.parametrize(
    ("name", "wrong", "words"),
    [
        ("motionagformer_tiny", {"frames": 1}, "frames=1"),
        ("motionagformer_tiny", {"adjacency": "sparse"}, "sparse"),
        ("motionagformer_tiny", {"channels": 4}, "channels"),
        ("motionagformer_tiny", {"attention": "flash"}, "flash"),
        ("mixste_tiny", {"channels": 1}, "channels"),
        ("mixste_tiny", {"dim": 60, "heads": 8}, "multiple"),
        ("poseformerv2_tiny", {"kept_frames": 4}, "odd"),
        ("poseformerv2_tiny", {"frames": 5}, "5"),
        ("poseformerv2_tiny", {"coefficients": 28}, "28"),
        ("poseformerv2_tiny", {"channels": 4}, "channels"),
        ("videopose3d_tiny", {"frames": 1}, "frames=1"),
        ("videopose3d_tiny", {"frames": 100}, "frames=100"),
        ("videopose3d_tiny", {"widths": [3, 3]}, "9"),
        ("videopose3d_tiny", {"widths": [4], "frames": 4}, "odd"),
        ("videopose3d_tiny", {"widths": [], "frames": 1}, "at least one"),
        ("videopose3d_tiny", {"form": "sparse"}, "sparse"),
        ("videopose3d_tiny", {"channels": 4}, "channels"),
    ],
)
def test_wrong_arguments_are_refused_in_words(name, wrong, words):
    with pytest.raises((ConfigError, ValueError), match=words):
        create_model(name, **wrong)


@pytest.mark.parametrize("name", TINY)
def test_training_step_is_finite_and_reaches_every_parameter(name, clip):
    torch.manual_seed(0)
    model = create_model(name, frames=9).train()
    model(clip(9, 4).float()).square().mean().backward()
    for key, parameter in model.named_parameters():
        assert parameter.grad is not None and torch.isfinite(parameter.grad).all(), key


def test_weights_for_another_clip_length_are_refused_where_no_shape_shows_it(tmp_path):
    path = tmp_path / "weights.pt"
    source = create_model("poseformerv2_tiny", frames=27)
    save_weights(path, source, {"variant": "poseformerv2_tiny"})
    load_checkpoint(create_model("poseformerv2_tiny", frames=27), path)
    other = create_model("poseformerv2_tiny", frames=81)
    before = {key: entry.clone() for key, entry in other.state_dict().items()}
    with pytest.raises(CheckpointError, match="frames=27, not 81"):
        load_checkpoint(other, path)
    assert all(torch.equal(entry, before[key]) for key, entry in other.state_dict().items())


def test_weights_of_a_causal_model_are_refused_by_another(tmp_path):
    save_weights(tmp_path / "weights.pt", create_model("videopose3d_tiny", causal=True), {})
    with pytest.raises(CheckpointError, match="causal=True, not False"):
        load_checkpoint(create_model("videopose3d_tiny"), tmp_path / "weights.pt")


def test_official_file_that_cannot_say_its_clip_length_loads_with_a_warning(tmp_path):
    model = create_model("poseformerv2_tiny", frames=27)
    torch.save({"model_pos": {f"module.{key}": v for key, v in model.state_dict().items()}}, tmp_path / "official.bin")
    with pytest.warns(UserWarning, match="frames=27"):
        load_checkpoint(model, tmp_path / "official.bin")
