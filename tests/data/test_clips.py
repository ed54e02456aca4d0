"""Rules that cut videos into windows, against the official splits and against brute force."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from posescale.data.clips import RULES, Videos, cut
from posescale.errors import ConfigError

GOLDENS = Path(__file__).resolve().parents[1] / "goldens"


def frames_of(windows, lengths):
    """Frames (W, T) of all windows, counted over all videos one after another."""
    offset = np.concatenate([[0], np.cumsum(lengths)[:-1]])
    rows = windows.rows(np.arange(len(windows)), np.array(lengths))
    return rows + offset[windows.sequence][:, None]


@pytest.mark.parametrize(("stride", "before"), [(9, []), (27, [20, 5])])  # the golden's second split drew on
def test_official_clips_with_their_random_numbers(stride, before):
    golden = np.load(GOLDENS / "posemamba_protocol.npz")[f"split_27_{stride}"]
    lengths = [60, 27, 20, 107, 5]  # the 20 frames are resampled, the last 5 are lost
    assert np.array_equal(frames_of(cut("official_clips", Videos(lengths, None, before), 27, stride), lengths), golden)


def test_the_test_split_draws_after_the_training_split():
    early, late = cut("official_clips", Videos([5, 40]), 9), cut("official_clips", Videos([5, 40], None, [7, 30]), 9)
    assert not np.array_equal(early.resampled[0], late.resampled[0])
    same = cut("official_clips", Videos([5, 40], None, [30, 7]), 9)  # a short last video draws nothing
    assert np.array_equal(early.resampled[0], same.resampled[0])


videos = st.lists(st.integers(1, 60), min_size=1, max_size=6)


@given(videos, st.integers(1, 30), st.integers(1, 40), st.sampled_from(sorted(RULES)))
def test_every_rule_stays_inside_its_videos(lengths, frames, stride, rule):
    windows = cut(rule, Videos(lengths), frames, stride)
    rows, counted = windows.rows(np.arange(len(windows)), np.array(lengths)), windows.counted(np.arange(len(windows)))
    assert rows.shape == counted.shape == (len(windows), frames)
    assert (rows >= 0).all() and (rows < np.array(lengths)[windows.sequence][:, None]).all()
    assert (np.diff(rows, axis=1) >= 0).all()


@given(videos, st.integers(1, 30))
def test_what_the_test_rules_count(lengths, frames):
    whole = np.arange(sum(lengths))

    def scored(rule, valid=None):
        windows = cut(rule, Videos(lengths, valid), frames)
        return np.sort(frames_of(windows, lengths)[windows.counted(np.arange(len(windows)))])

    assert np.array_equal(scored("every_frame"), whole) and np.array_equal(scored("centred_valid"), whole)
    assert set(scored("last_twice")) == set(whole)
    assert len(scored("last_twice")) == sum(-(-length // frames) * frames for length in lengths)
    flags = [np.arange(length) % 3 == 1 for length in lengths]
    assert np.array_equal(scored("centred_valid", flags), np.flatnonzero(np.concatenate(flags)))


def test_rules_by_hand():
    def rows(rule, lengths, frames, stride=None):
        windows = cut(rule, Videos(lengths), frames, stride)
        return windows.rows(np.arange(len(windows)), np.array(lengths)).tolist()

    assert rows("strided", [7, 2], 3, 2) == [[0, 1, 2], [2, 3, 4], [4, 5, 6]]
    assert rows("chunks", [7], 3) == [[0, 0, 1], [2, 3, 4], [5, 6, 6]]
    assert rows("last_twice", [7, 6], 3) == [[0, 1, 2], [3, 4, 5], [4, 5, 6], [0, 1, 2], [3, 4, 5]]
    assert rows("last_twice", [2], 3) == [[0, 1, 1]]
    assert rows("tail_resampled", [5], 4, 2) == [[0, 1, 2, 3], [2, 2, 3, 4], [4, 4, 4, 4]]
    assert rows("centred_valid", [3], 4) == [[0, 0, 1, 2], [0, 1, 2, 2], [1, 2, 2, 2]]


def test_wrong_arguments_are_refused():
    for frames, stride in ((0, 1), (3, 0)):
        with pytest.raises(ConfigError, match="1 or more"):
            cut("strided", Videos([9]), frames, stride)
    with pytest.raises(ConfigError, match="no rule"):
        cut("all", Videos([9]), 3)
