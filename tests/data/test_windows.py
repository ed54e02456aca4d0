import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from posescale.data.camera import normalise_screen
from posescale.data.clips import cover
from posescale.data.skeleton import LEFT, RIGHT
from posescale.data.windows import ClipWindows, collate, mean_pose, mirror
from posescale.errors import ConfigError, DataError


@given(st.integers(1, 400), st.integers(1, 90))
def test_cover_scores_every_frame_once(length, frames):
    scored = []
    for start, first in cover(length, frames):
        assert 0 <= start and (start + frames <= length or (start == 0 and length < frames))
        scored += range(start + first, min(start + frames, length))
    assert scored == list(range(length))


def test_cover_by_hand():
    assert cover(10, 4) == [(0, 0), (4, 0), (6, 2)]
    assert cover(8, 4) == [(0, 0), (4, 0)]
    assert cover(3, 4) == [(0, 0)]
    for wrong in ((0, 4), (4, 0)):
        with pytest.raises(ConfigError):
            cover(*wrong)


def test_windows_are_the_arrays_rows(small):
    windows = ClipWindows(small, "train", 9, 5)
    inputs, targets = windows.__getitems__(list(range(len(windows))))
    assert inputs.shape == targets.shape == (len(windows), 9, 17, 3)
    assert inputs.dtype == targets.dtype == torch.float32
    for number in (0, 7, len(windows) - 1):
        s = windows.sequences[windows.sequence[number]]
        rows = slice(s.start + windows.start[number], s.start + windows.start[number] + 9)
        assert rows.stop <= s.start + s.length
        pixels = small.detections[rows]
        assert np.allclose(inputs[number, ..., :2], normalise_screen(pixels[..., :2], s.width, s.height), atol=1e-6)
        assert (inputs[number, ..., 2].numpy() == pixels[..., 2]).all()
        poses = small.poses[rows]
        assert (targets[number].numpy() == poses - poses[:, :1]).all()
    assert (targets[:, :, 0] == 0).all()


def test_stride_covers_each_sequence(small):
    windows = ClipWindows(small, "train", 20, 7)
    for number, s in enumerate(windows.sequences):
        assert windows.start[windows.sequence == number].tolist() == list(range(0, s.length - 20 + 1, 7))


def test_exact_input_has_full_confidence(small):
    inputs, _ = ClipWindows(small, "val", 9, 9, input_2d="exact").__getitems__([0, 1])
    assert (inputs[..., 2] == 1).all()
    s = small.sequences("val")[0]
    expected = normalise_screen(small.exact[s.start : s.start + 9], s.width, s.height)
    assert np.allclose(inputs[0, ..., :2], expected, atol=1e-6)


def test_short_sequences_are_left_out_aloud_or_padded(small):
    with pytest.raises(DataError, match="shorter than 61"):
        ClipWindows(small, "train", 61, 1)
    windows = ClipWindows(small, "train", 100, rule="every_frame")
    _, targets = windows.__getitems__([0])
    assert len(windows) == len(small.sequences("train"))
    assert (targets[0, 59:] == targets[0, 59]).all() and (targets[0, 58] != targets[0, 59]).any()


def test_some_short_sequences_are_counted(small, monkeypatch):
    s = small.sequences("train")
    short = [s[0].model_copy(update={"length": 10}), *s[1:]]
    monkeypatch.setattr(small, "sequences", lambda split: short)
    with pytest.warns(UserWarning, match=f"1 of {len(s)} sequences"):
        windows = ClipWindows(small, "train", 30, 10)
    assert 0 not in windows.sequence


def test_wrong_arguments_are_refused(small):
    for arguments in ((0, 1), (9, 0)):
        with pytest.raises(ConfigError):
            ClipWindows(small, "train", *arguments)
    with pytest.raises(ConfigError, match="no rule"):
        ClipWindows(small, "train", 9, rule="all")
    with pytest.raises(ConfigError, match="input_2d"):
        ClipWindows(small, "train", 9, 1, input_2d="cpn")
    with pytest.raises(DataError, match="no sequence"):
        ClipWindows(small, "holdout", 9, 1)
    with pytest.raises(IndexError):
        ClipWindows(small, "train", 9, 1)[10**6]


def test_single_windows_and_loaders_agree(small):
    windows = ClipWindows(small, "test", 9, 9)
    loader = torch.utils.data.DataLoader(windows, batch_size=4, collate_fn=collate)
    inputs, targets = next(iter(loader))
    assert inputs.shape == (4, 9, 17, 3)
    assert (windows[2][0] == inputs[2]).all() and (windows[2][1] == targets[2]).all()
    assert len(list(windows)) == len(windows)


def test_mirror_is_an_involution_that_swaps_sides():
    clips = torch.randn(2, 5, 17, 3)
    mirrored = mirror(clips, LEFT, RIGHT)
    assert torch.equal(mirror(mirrored, LEFT, RIGHT), clips)
    assert torch.equal(mirrored[..., LEFT, 1:], clips[..., RIGHT, 1:])
    assert torch.equal(mirrored[..., LEFT, 0], -clips[..., RIGHT, 0])
    assert torch.equal(mirrored[..., 0, 0], -clips[..., 0, 0])
    assert (mirror(clips.numpy(), LEFT, RIGHT) == mirrored.numpy()).all()


def test_mean_pose_is_the_mean_of_the_training_split(small):
    rows = np.concatenate([np.arange(s.start, s.start + s.length) for s in small.sequences("train")])
    poses = small.poses[rows].astype(np.float64)
    assert np.allclose(mean_pose(small), (poses - poses[:, :1]).mean(0), atol=1e-9)
    with pytest.raises(DataError):
        mean_pose(small, "holdout")
