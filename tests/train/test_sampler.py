"""The order of windows and the flips: functions of seed, epoch and step, every window as often as any other."""

import numpy as np
import pytest
import torch
from swing import LEFT, RECIPE, RIGHT

from posescale.data.windows import mirror
from posescale.train.lifting import LiftingTrack
from posescale.train.sampler import EpochBatches, flips


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


def test_flips_are_functions_of_their_place():
    many = np.stack([flips(0, epoch, step, 16, 0.5) for epoch in range(10) for step in range(10)])
    assert 0.45 < many.mean() < 0.55 and len(np.unique(many, axis=0)) > 90
    np.testing.assert_array_equal(flips(0, 4, 2, 16, 0.5), many[42])
    assert not flips(0, 0, 0, 100, 0.0).any() and flips(0, 0, 0, 100, 1.0).all()


def test_input_and_target_are_mirrored_together(data_dir):
    track = LiftingTrack(data_dir, 5, 0, RECIPE, {})
    inputs, targets = torch.randn(32, 5, 17, 3), torch.randn(32, 5, 17, 3)
    chosen = flips(0, 0, 3, 32, 0.5)
    assert chosen.any() and not chosen.all()
    flipped = track.training((inputs, targets), 0, 3)
    for before, after in zip((inputs, targets), flipped, strict=True):
        torch.testing.assert_close(after[chosen], mirror(before[chosen], LEFT, RIGHT), rtol=0, atol=0)
        torch.testing.assert_close(after[~chosen], before[~chosen], rtol=0, atol=0)
