"""Targets, loss and decoding of heat maps on closed forms."""

import numpy as np
import pytest
import torch

from posescale.errors import ConfigError, ShapeError
from posescale.train.video.heatmaps import decode, loss, targets


def one(x, y, sigma=2.0, weight=1.0, height=64, width=48):
    """Map and weight of a single joint in crop pixels."""
    maps, weights = targets(torch.tensor([[[x, y]]]), torch.tensor([[weight]]), height, width, sigma)
    return maps[0, 0].numpy(), float(weights[0, 0])


def test_closed_form():
    for sigma in (1.0, 2.0, 3.0):
        found, weight = one(4 * 20.0, 4 * 30.0, sigma)
        rows, columns = np.mgrid[:64, :48]
        expected = np.exp(-((columns - 20) ** 2 + (rows - 30) ** 2) / (2 * sigma**2))
        expected[(abs(columns - 20) > 3 * sigma) | (abs(rows - 30) > 3 * sigma)] = 0
        np.testing.assert_allclose(found, expected, rtol=1e-6)
        assert weight == 1 and found.max() == 1.0 and found[30, 20] == 1.0


@pytest.mark.parametrize(("x", "column"), [(80.0, 20), (81.99, 20), (82.0, 21), (78.0, 20), (77.99, 19), (-1.0, 0)])
def test_the_centre_is_rounded(x, column):
    assert np.unravel_index(one(x, 100.0)[0].argmax(), (64, 48))[1] == column


def test_outside_and_invisible():
    found, kept = one(-26.0, 100.0)  # column -6 of the grid
    assert kept == 1.0 and found.max() == pytest.approx(np.exp(-36 / 8)) and found[25, 0] == found.max()
    for x, y, weight in [(-30.0, 100.0, 1.0), (4 * 54.0, 0.0, 1.0), (100.0, -40.0, 1.0), (50.0, 50.0, 0.0)]:
        found, kept = one(x, y, weight=weight)
        assert kept == 0 and not found.any()


def test_sigma_must_be_positive():
    with pytest.raises(ConfigError, match="sigma"):
        one(1.0, 1.0, sigma=0.0)


def test_loss_is_the_mean_over_joints_of_weighted_errors():
    rng = torch.Generator().manual_seed(0)
    pred, maps = torch.rand(3, 5, 8, 6, generator=rng), torch.rand(3, 5, 8, 6, generator=rng)
    weight = (torch.rand(3, 5, generator=rng) > 0.4).float()
    by_joint = [((pred[:, k] - maps[:, k]) * weight[:, k, None, None]).square().mean() for k in range(5)]
    torch.testing.assert_close(loss(pred, maps, weight), torch.stack(by_joint).mean())
    assert loss(pred, maps, torch.zeros(3, 5)) == 0 and loss(maps, maps, weight) == 0


def test_loss_ignores_joints_of_no_weight():
    pred = torch.rand(2, 3, 8, 6, requires_grad=True)
    weight = torch.tensor([[1.0, 0.0, 1.0], [0.0, 1.0, 1.0]])
    loss(pred, torch.zeros(2, 3, 8, 6), weight).backward()
    assert ((pred.grad.abs().amax((2, 3)) > 0) == (weight > 0)).all()


def test_loss_refuses_other_sizes():
    with pytest.raises(ShapeError, match="heat maps"):
        loss(torch.zeros(1, 2, 8, 6), torch.zeros(1, 2, 8, 8), torch.ones(1, 2))


def test_decoding_moves_a_quarter_towards_the_higher_neighbour():
    maps = torch.zeros(1, 1, 16, 12)
    maps[0, 0, 8, 5], maps[0, 0, 8, 6], maps[0, 0, 7, 5] = 1.0, 0.5, 0.25
    joints, peak = decode(maps)
    assert joints.tolist() == [[[4 * 5.25, 4 * 7.75]]] and peak.tolist() == [[1.0]]
    maps[0, 0, 8, 4], maps[0, 0, 9, 5] = 0.5, 0.25  # neighbours of equal height: not moved
    assert decode(maps)[0].tolist() == [[[20.0, 32.0]]]


@pytest.mark.parametrize(
    ("x", "y", "moved"), [(1, 8, False), (2, 8, True), (10, 8, True), (11, 8, False), (5, 1, False)]
)
def test_maxima_near_a_side_are_not_moved(x, y, moved):
    maps = torch.rand(1, 1, 16, 12, generator=torch.Generator().manual_seed(0)) / 2
    maps[0, 0, y, x] = 1.0
    assert (decode(maps)[0][0, 0].tolist() != [4 * x, 4 * y]) == moved


def test_nothing_positive_gives_the_corner():
    joints, peak = decode(torch.full((1, 2, 8, 8), -0.5))
    assert joints.tolist() == [[[0, 0], [0, 0]]] and peak.tolist() == [[-0.5, -0.5]]


def test_targets_are_read_back():
    joints = torch.tensor([[[40.0, 60.0], [4 * 11.0, 4 * 17.0], [100.0, 200.0]]])
    maps, weight = targets(joints, torch.ones(1, 3), 64, 48, 2.0)
    torch.testing.assert_close(decode(maps)[0], joints)
    spread = joints + 1.9 * torch.tensor([1.0, -1.0])
    found = decode(targets(spread, torch.ones(1, 3), 64, 48, 2.0)[0])[0]
    assert (found - spread).abs().max() <= 2.0  # half a heat-map pixel
    assert weight.all()


def test_decoding_refuses_other_shapes():
    with pytest.raises(ShapeError, match="3 x 3"):
        decode(torch.zeros(1, 8, 8))
