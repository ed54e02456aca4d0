"""Loss terms against the official code, in float64; what a recipe leaves out is not computed."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from posescale.errors import ConfigError
from posescale.recipes import LossWeights
from posescale.train import losses

GOLDENS = Path(__file__).resolve().parents[1] / "goldens"
OFFICIAL = {
    "mpjpe": "mpjpe", "n_mpjpe": "n_mpjpe", "velocity": "velocity", "weighted_mpjpe": "weighted_mpjpe",
    "weighted_difference": "diff",
}  # fmt: skip


@pytest.fixture(scope="module")
def golden():
    arrays = np.load(GOLDENS / "posemamba_protocol.npz")
    pred, target = (torch.from_numpy(arrays[k].astype(np.float64)) for k in ("pred", "gt"))
    return pred, target - target[:, :, :1], json.loads(str(arrays["losses_rootrel_gt"]))


@pytest.mark.parametrize("name", losses.TERMS)
def test_terms_equal_the_official_ones(golden, name):
    pred, target, official = golden
    assert float(losses.TERMS[name](pred, target)) == pytest.approx(official[OFFICIAL[name]], rel=1e-12)


def test_total_of_the_paper(golden):
    pred, target, official = golden
    paper = LossWeights(mpjpe=1.0, n_mpjpe=0.5, velocity=20.0, weighted_difference=0.5)
    assert float(losses.total(pred, target, paper)) == pytest.approx(official["total"], rel=1e-12)


def test_zero_weights_are_not_computed(golden, monkeypatch):
    def fail(*_):
        raise AssertionError("computed")

    for name in set(losses.TERMS) - {"mpjpe"}:
        monkeypatch.setitem(losses.TERMS, name, fail)
    pred, target, official = golden
    assert float(losses.total(pred, target, LossWeights())) == pytest.approx(official["mpjpe"], rel=1e-12)
    with pytest.raises(ConfigError, match="every loss weight is zero"):
        losses.total(pred, target, LossWeights(mpjpe=0))


def test_one_frame_has_no_velocity_but_a_gradient():
    pred = torch.randn(2, 1, 17, 3, requires_grad=True)
    weights = LossWeights(mpjpe=0, velocity=20, weighted_difference=0.5)
    loss = losses.total(pred, torch.randn(2, 1, 17, 3), weights)
    loss.backward()
    assert loss == 0 and torch.equal(pred.grad, torch.zeros_like(pred))


def test_weighted_terms_refuse_another_skeleton():
    poses = torch.randn(1, 3, 15, 3)
    assert torch.isfinite(losses.total(poses, poses + 1, LossWeights(velocity=1, n_mpjpe=1)))
    for name in ("weighted_mpjpe", "weighted_difference"):
        with pytest.raises(ConfigError, match="17 joints"):
            losses.total(poses, poses, LossWeights(**{name: 1}))


def test_gradients_are_right():
    pred = torch.randn(1, 3, 17, 3, dtype=torch.float64, requires_grad=True)
    target = torch.randn(1, 3, 17, 3, dtype=torch.float64)
    everything = LossWeights(mpjpe=1, weighted_mpjpe=0.3, n_mpjpe=0.5, velocity=20, weighted_difference=0.5)
    assert torch.autograd.gradcheck(lambda p: losses.total(p, target, everything), pred)
