"""The order of windows and the flips: functions of seed, epoch and step, every window as often as any other."""

import numpy as np
import pytest
import torch
from swing import LEFT, RIGHT

from posescale.data.prepared import PreparedData
from posescale.data.windows import ClipWindows, mirror
from posescale.train.sampler import EpochBatches, MirroredWindows


def epochs(sampler, count):
    found = []
    for epoch in range(count):
        sampler.set_epoch(epoch)
        found.append(list(sampler))
        assert len(found[-1]) == len(sampler)
    return found


@pytest.mark.parametrize(("count", "batch", "steps"), [(10, 4, 3), (3, 8, 2), (7, 7, 1), (100, 1, 5), (5, 2, 50)])
def test_steps_cut_an_endless_run_of_passes(count, batch, steps):
    found = epochs(EpochBatches(count, batch, seed=1, steps=steps), 6)
    assert all(len(b) == batch for epoch in found for b in epoch)
    entries = [window for epoch in found for b in epoch for window in b]
    whole = len(entries) // count * count
    for start in range(0, whole, count):
        assert sorted(entries[start : start + count]) == list(range(count))


@pytest.mark.parametrize(("count", "batch"), [(10, 4), (3, 8), (8, 4)])
def test_one_pass_per_epoch_without_steps(count, batch):
    found = epochs(EpochBatches(count, batch, seed=0), 3)
    for epoch in found:
        assert sorted(w for b in epoch for w in b) == list(range(count))
        assert [len(b) for b in epoch[:-1]] == [batch] * (len(epoch) - 1)
    assert found[0] != found[1]


def test_an_epoch_does_not_depend_on_those_before():
    for steps in (None, 7):
        found = epochs(EpochBatches(50, 4, seed=3, steps=steps), 4)
        assert list(EpochBatches(50, 4, seed=3, steps=steps, epoch=3)) == found[3]
        assert list(EpochBatches(50, 4, seed=4, steps=steps, epoch=3)) != found[3]


def test_flips_are_as_likely_as_asked_and_depend_on_seed_and_place_alone():
    count = 1000
    sampler = EpochBatches(count, 16, seed=0, flip=0.5)
    entries = sampler.entries(4)
    assert 0.45 < (entries >= count).mean() < 0.55
    np.testing.assert_array_equal(EpochBatches(count, 7, seed=0, flip=0.5, epoch=9).entries(4), entries)
    np.testing.assert_array_equal(entries % count, EpochBatches(count, 16, seed=0).entries(4))
    assert ((sampler.entries(5) >= count) != (entries >= count)).any()
    assert (EpochBatches(count, 16, seed=0, flip=1.0).entries(0) >= count).all()


@pytest.mark.parametrize("steps", [None, 3])
def test_doubling_shows_every_window_both_ways_in_one_pass(steps):
    count, batch = 6, 4
    found = epochs(EpochBatches(count, batch, seed=2, steps=steps, flip="doubling"), 2 if steps is None else 4)
    entries = [entry for epoch in found for b in epoch for entry in b]
    for start in range(0, len(entries), 2 * count):
        assert sorted(entries[start : start + 2 * count]) == list(range(2 * count))


@pytest.mark.parametrize(("count", "batch", "steps"), [(10, 4, None), (9, 4, None), (7, 3, 5), (20, 6, None)])
@pytest.mark.parametrize("world", [2, 3])
def test_processes_share_each_batch(count, batch, steps, world):
    (whole,) = epochs(EpochBatches(count, batch, seed=1, steps=steps, flip=0.5), 1)
    samplers = [EpochBatches(count, batch, 1, steps, 0, 0.5, rank, world) for rank in range(world)]
    shares = [epochs(sampler, 1)[0] for sampler in samplers]
    for step, together in enumerate(whole):
        counted = [e for s, b in zip(samplers, shares, strict=True) if s.share(step) for e in b[step]]
        assert sorted(counted) == sorted(together)
        assert all(b[step] for b in shares), "a process without clips would leave the others waiting"


@pytest.mark.parametrize(("count", "batch", "steps"), [(10, 4, None), (9, 4, None), (7, 3, 6), (21, 2, None)])
@pytest.mark.parametrize("world", [1, 2, 3])
@pytest.mark.parametrize("accumulate", [1, 2, 4])
def test_weighted_shares_give_the_mean_over_the_clips_of_a_step(count, batch, steps, world, accumulate):
    """As the trainer combines them: the mean over processes of the sum over batches, divided by `accumulate`."""
    value = np.random.default_rng(0).normal(size=2 * count)
    (whole,) = epochs(EpochBatches(count, batch, seed=1, steps=steps, flip=0.5), 1)
    samplers = [EpochBatches(count, batch, 1, steps, 0, 0.5, rank, world) for rank in range(world)]
    shares = [list(sampler) for sampler in samplers]
    for first in range(0, len(whole), accumulate):
        group = range(first, min(first + accumulate, len(whole)))
        parts = [
            s.share(n, accumulate) * value[b[n]].mean() for s, b in zip(samplers, shares, strict=True) for n in group
        ]
        expected = value[[entry for n in group for entry in whole[n]]].mean()
        assert sum(parts) / world / accumulate == pytest.approx(expected, rel=1e-12)
    assert samplers[0].share(0) == 1 or batch % world


def test_input_and_target_are_mirrored_together(data_dir):
    windows = ClipWindows(PreparedData(data_dir), "train", 9, 3)
    both = MirroredWindows(windows, LEFT, RIGHT)
    numbers = [0, 3, 5]
    entries = [0, 3 + len(windows), 5]
    for plain, found in zip(windows.__getitems__(numbers), both.__getitems__(entries), strict=True):
        torch.testing.assert_close(found[1], mirror(plain[1], LEFT, RIGHT), rtol=0, atol=0)
        torch.testing.assert_close(found[[0, 2]], plain[[0, 2]], rtol=0, atol=0)
    assert len(both) == 2 * len(windows)
    torch.testing.assert_close(both[3 + len(windows)][0], both.__getitems__(entries)[0][1])
