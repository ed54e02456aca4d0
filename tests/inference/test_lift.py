"""Windows, cross-fades and streams, with toy models whose answers are known and with the real ones."""

import json

import numpy as np
import pytest
import torch
from torch import nn

import posescale
from posescale.data.camera import normalise_screen
from posescale.data.windows import mirror
from posescale.errors import ConfigError, DataError
from posescale.inference import LiftStream, blend_weights, lift


def motion(frames, joints=17, seed=1):
    """Smooth keypoints with confidences."""
    random = np.random.default_rng(seed)
    time = np.arange(frames)[:, None, None] / 50
    swing = np.sin(2 * np.pi * (time * (0.3 + 2 * random.random((joints, 2))) + random.random((joints, 2))))
    xy = random.random((joints, 2)) - 0.5 + 0.2 * swing
    return np.concatenate([xy, 0.5 + 0.5 * random.random((frames, joints, 1))], axis=-1).astype(np.float32)


class Echo(nn.Module):
    """Answers each frame with its own input: every blend of windows must give the input back."""

    def forward(self, x):
        return x.clone()


class Ramp(nn.Module):
    """Answers with the place of a frame in its window, so that weights can be read off."""

    def forward(self, x):
        return torch.arange(x.shape[1], dtype=x.dtype)[None, :, None, None].expand_as(x).clone()


class Centre(nn.Module):
    """A seq2frame model: the mean of its window."""

    def forward(self, x):
        return x.mean(1, keepdim=True)


@pytest.mark.parametrize("length", [1, 2, 8, 9, 10, 17, 18, 19, 40, 41])
@pytest.mark.parametrize("overlap", [0, 1, 3, 4, 5, 8, None])
@pytest.mark.parametrize("batch", [1, 3])
def test_every_frame_is_answered_once_and_in_its_place(length, overlap, batch):
    x = motion(length)
    poses = lift(Echo(), x, frames=9, overlap=overlap, batch=batch, output="seq2seq")
    assert poses.shape == (length, 17, 3) and poses.dtype == np.float32
    np.testing.assert_allclose(poses, x, rtol=0, atol=1e-6)


def test_the_cross_fade_is_the_weighted_mean_of_the_two_windows():
    poses = lift(Ramp(), motion(14), frames=9, overlap=4, output="seq2seq")[:, 0, 0]
    # windows at 0 and 5: frame 5 + i is place 5 + i of the first, with weight (4 - i) / 5, and i of the second
    shared = [((4 - i) * (5 + i) + (i + 1) * i) / 5 for i in range(4)]
    np.testing.assert_allclose(poses, [*range(5), *shared, *range(4, 9)], rtol=1e-6)


def test_the_last_window_is_moved_back_to_the_end():
    poses = lift(Ramp(), motion(11), frames=9, overlap=0, output="seq2seq")[:, 0, 0]
    assert poses.tolist() == [*range(9), 7, 8]  # the window at 2 answers for frames 9 and 10


def test_weights():
    assert blend_weights(5, 0).tolist() == [1] * 5
    assert blend_weights(7, 2).tolist() == pytest.approx([1 / 3, 2 / 3, 1, 1, 1, 2 / 3, 1 / 3])
    weights = blend_weights(9, 4)
    assert weights[5:] + weights[:4] == pytest.approx(np.ones(4))


@pytest.mark.parametrize("name", ["posemamba_tiny", "motionbert_tiny", "mixste_tiny", "motionagformer_tiny"])
def test_one_window_is_the_models_own_answer_to_the_bit(name):
    model, x = posescale.create_model(name, frames=27).eval(), motion(27)
    with torch.inference_mode():
        expected = model(torch.from_numpy(x)[None])[0].numpy()
        padded = model(torch.from_numpy(np.concatenate([x[:20], x[19:20].repeat(7, 0)]))[None])[0, :20].numpy()
    assert np.array_equal(lift(model, x, frames=27), expected)
    assert np.array_equal(lift(model, x[:20], frames=27), padded)


@pytest.mark.parametrize("name", ["poseformerv2_tiny", "videopose3d_tiny"])
def test_a_seq2frame_model_sees_a_window_around_each_frame(name):
    model, x = posescale.create_model(name, frames=27).eval(), motion(30)
    poses = lift(model, x, frames=27)
    for frame in (0, 13, 29):
        rows = np.arange(frame - 13, frame + 14).clip(0, 29)
        with torch.inference_mode():
            assert np.array_equal(poses[frame], model(torch.from_numpy(x[rows])[None])[0, 0].numpy())


@pytest.mark.parametrize("frames", [1, 4, 5])
def test_even_and_odd_seq2frame_windows(frames):
    x = motion(7)
    before = (frames - 1) // 2
    rows = (np.arange(7)[:, None] + np.arange(frames) - before).clip(0, 6)
    np.testing.assert_allclose(lift(Centre(), x, frames=frames, output="seq2frame"), x[rows].mean(1), atol=1e-6)


@pytest.mark.parametrize("chunks", [[1] * 60, [7] * 9, [100], [0, 26, 1, 0, 40]])
@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("name", ["posemamba_tiny", "poseformerv2_tiny"])
def test_a_stream_gives_the_offline_poses_to_the_bit(name, chunks, batch):
    model, x = posescale.create_model(name, frames=27).eval(), motion(60)
    stream, out, start = LiftStream(model, frames=27, batch=batch), [], 0
    for size in chunks:
        out.append(stream.push(x[start : start + size]))
        start += size
    out.append(stream.finish())
    whole = lift(model, x[: min(start, 60)], frames=27, batch=batch)
    assert np.array_equal(np.concatenate(out), whole)


@pytest.mark.parametrize(("model", "output"), [(Echo(), "seq2seq"), (Centre(), "seq2frame")])
@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("overlap", [None, 2, 7])
def test_latency_and_memory_are_as_declared(model, output, batch, overlap):
    if output == "seq2frame" and overlap is not None:
        pytest.skip("has no overlap")
    stream = LiftStream(model, frames=9, output=output, batch=batch, overlap=overlap)
    out, worst, held = 0, 0, 0
    for frame, x in enumerate(motion(200)):
        out += len(stream.push(x[None]))
        worst = max(worst, frame + 1 - out)
        held = max(held, len(stream._seen) + len(stream._mix._sums))
    assert worst == stream.latency  # one more frame in, at most `latency` behind it still open
    assert held <= 2 * (9 + batch * 9)
    assert out + len(stream.finish()) == 200


def test_seams_stay_below_the_models_own_changes():
    """The 95 % quantile of steps where windows meet, at the default overlap, against that of the model's own."""
    for seed in range(2):
        torch.manual_seed(seed)
        model = posescale.create_model("posemamba_tiny", frames=27).eval()
        ratios = {}
        for overlap in (0, None):
            stream = LiftStream(model, frames=27, overlap=overlap, watch_seams=True)
            stream.push(motion(300, seed=seed))
            stream.finish()
            ratios[overlap] = {q: stream.seams(q).ratio for q in (0.5, 0.95)}
        assert ratios[None][0.95] <= 1.0 and ratios[None][0.5] <= 1.05
        assert ratios[0][0.5] > 5  # the same measure shows the cut of windows that are merely put side by side


def test_seams_by_hand():
    """Windows that are cut (overlap 0): within each the step is 1, between them 8."""
    stream = LiftStream(Ramp(), frames=9, overlap=0, output="seq2seq", watch_seams=True)
    stream.push(motion(27))
    stream.finish()
    step = np.sqrt(3)  # in x, y and z
    assert stream.seams(1.0) == pytest.approx((8 * step, step, 8))
    with pytest.raises(ConfigError, match="watch_seams"):
        LiftStream(Ramp(), frames=9).seams()


def test_flip_averages_with_the_mirror_image():
    left, right = [4], [1]
    model, x = posescale.create_model("posemamba_tiny", frames=9).eval(), motion(9)
    with torch.inference_mode():
        clip = torch.from_numpy(x)[None]
        expected = (model(clip) + mirror(model(mirror(clip, left, right)), left, right)) / 2
    assert np.array_equal(lift(model, x, frames=9, flip=(left, right)), expected[0].numpy())


def test_pixels_two_channels_and_types():
    x = motion(20)
    pixels = np.concatenate([(x[..., :2] + [1, 0.75]) * 320, x[..., 2:]], axis=-1)
    expected = np.concatenate([normalise_screen(pixels[..., :2], 640, 480), x[..., 2:]], axis=-1)
    np.testing.assert_allclose(lift(Echo(), pixels, frames=9, size=(640, 480), output="seq2seq"), expected, atol=1e-6)
    assert (lift(Echo(), x[..., :2], frames=9, output="seq2seq")[..., 2] == 1).all()
    double = posescale.create_model("posemamba_tiny", frames=9).double().eval()
    assert lift(double, x, frames=9).dtype == np.float64


@pytest.mark.parametrize(
    ("keypoints", "message"),
    [
        (np.zeros((5, 17)), "found float64 \\(5, 17\\)"),
        (np.zeros((5, 17, 4)), "\\(5, 17, 4\\)"),
        (np.full((5, 17, 2), np.nan), "NaN or infinity, first in frame 0, joint 0"),
        (np.full((5, 17, 2), 500.0), "pixels"),
        (np.full((5, 17, 2), "a"), "must be numbers"),
    ],
)
def test_bad_keypoints_are_refused(keypoints, message):
    with pytest.raises(DataError, match=message):
        lift(Echo(), keypoints, frames=9, output="seq2seq")


def test_a_refused_push_loses_nothing():
    stream = LiftStream(Echo(), frames=9, output="seq2seq")
    x = motion(20)
    out = [stream.push(x[:10])]
    for bad in (np.full((1, 17, 3), np.nan), motion(3, joints=5)):
        with pytest.raises(DataError):
            stream.push(bad)
    out += [stream.push(x[10:]), stream.finish()]
    np.testing.assert_allclose(np.concatenate(out), x, atol=1e-6)
    with pytest.raises(ConfigError, match="finished"):
        stream.push(x)


@pytest.mark.parametrize(
    "settings", [{"frames": 0}, {"frames": None}, {"overlap": 9}, {"overlap": -1}, {"batch": 0}, {"output": "both"}]
)
def test_wrong_settings_are_refused(settings):
    with pytest.raises(ConfigError):
        lift(Echo(), motion(20), **({"frames": 9, "output": "seq2seq"} | settings))


def test_an_answer_of_the_wrong_shape_is_refused():
    with pytest.raises(ConfigError, match="expected 9 or 1 frames"):
        lift(nn.Flatten(2), motion(20), frames=9)


def test_no_frames_give_no_poses():
    assert lift(Echo(), np.empty((0, 17, 2)), frames=9, output="seq2seq").shape == (0, 17, 3)


def test_command_line(tmp_path):
    import typer
    from typer.testing import CliRunner

    from posescale.checkpoints import save_weights
    from posescale.commands.lift import lift as verb

    model = posescale.create_model("posemamba_tiny", frames=27).eval()
    save_weights(tmp_path / "w.pt", model, {"variant": "posemamba_tiny", "frames": 27, "parameters": {"frames": 27}})
    np.savez(tmp_path / "in.npz", keypoints=motion(70), fps=50)
    app = typer.Typer()
    app.command()(verb)

    def run(*words):
        common = ["posemamba_tiny", "--weights", str(tmp_path / "w.pt"), "--out", str(tmp_path / "out.npz")]
        return CliRunner().invoke(app, [*common, *words])

    done = run("--keypoints", str(tmp_path / "in.npz"), "--batch", "1", "--json")
    assert done.exit_code == 0, done.output
    (row,) = json.loads(done.stdout)
    assert (row["frames"], row["window"], row["overlap"]) == (70, 27, 13) and row["seam_ratio"] > 0
    with np.load(tmp_path / "out.npz") as written:
        assert np.array_equal(written["poses"], lift(model, motion(70), frames=27))
        assert json.loads(str(written["meta"]))["overlap"] == 13
    (tmp_path / "torn.npz").write_bytes((tmp_path / "in.npz").read_bytes()[:500])
    for path in (tmp_path / "torn.npz", tmp_path / "absent.npy"):
        failed = run("--keypoints", str(path))
        assert isinstance(failed.exception, DataError) and path.name in str(failed.exception)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in.npz", "out.npz", "torn.npz", "w.pt"]
