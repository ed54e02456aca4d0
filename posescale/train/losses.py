"""The loss terms of the lifting literature, as PoseMamba, MotionBERT and MixSTE train with them.

Predictions and targets are (B, T, J, 3), the target relative to its root, in one unit. The weights of a recipe belong
to that unit: twenty times the velocity error means another thing in metres than in screen units.
"""

from collections.abc import Callable

import torch

from posescale.errors import ConfigError
from posescale.recipes import LossWeights

Term = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]

# How much each of the 17 joints of Human3.6M counts in the weighted terms: limbs' ends most (MixSTE, PoseMamba).
JOINT_WEIGHTS = (1, 1, 2.5, 2.5, 1, 2.5, 2.5, 1, 1, 1, 1.5, 1.5, 4, 4, 1.5, 4, 4)


def mpjpe(pred: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Mean distance over clips, frames and joints, a scalar in the unit of the poses."""
    return _distance(pred, target).mean()


def weighted_mpjpe(pred: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Mean of w_j times the distance (MixSTE's L_w)."""
    return (_joint_weights(pred) * _distance(pred, target)).mean()


def n_mpjpe(pred: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """MPJPE after scaling each predicted frame by <target, pred> / <pred, pred>."""
    scale = (target * pred).sum((-2, -1), keepdim=True) / (pred * pred).sum((-2, -1), keepdim=True)
    return mpjpe(scale * pred, target)


def velocity(pred: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """MPJPE of the differences of neighbouring frames; 0 for clips of one frame."""
    if pred.shape[1] < 2:
        return 0.0 * pred.sum()
    return mpjpe(pred.diff(dim=1), target.diff(dim=1))


def weighted_difference(pred: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Mean of w_j times the squared difference of neighbouring predicted frames (MixSTE's L_t); no target is read."""
    if pred.shape[1] < 2:
        return 0.0 * pred.sum()
    return (_joint_weights(pred)[:, None] * pred.diff(dim=1).square()).mean()


TERMS: dict[str, Term] = {
    "mpjpe": mpjpe,
    "weighted_mpjpe": weighted_mpjpe,
    "n_mpjpe": n_mpjpe,
    "velocity": velocity,
    "weighted_difference": weighted_difference,
}


def total(pred: torch.Tensor, target: torch.Tensor, weights: LossWeights) -> torch.Tensor:
    """The weighted sum of the terms whose weight is not zero; the others are not computed.

    Args:
        pred: (B, T, J, 3).
        target: (B, T, J, 3), root-relative.
        weights: of each term, by name.

    Returns:
        a scalar.

    Raises:
        ConfigError: all weights are zero, or a weighted term meets another skeleton than the 17 joints.
    """
    chosen = {name: weight for name, weight in weights if weight}
    if not chosen:
        raise ConfigError(f"recipe: every loss weight is zero; set one of {', '.join(TERMS)}")
    return sum(weight * TERMS[name](pred, target) for name, weight in chosen.items())


def _distance(pred: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    return torch.linalg.vector_norm(pred - target, dim=-1)


def _joint_weights(pred: torch.Tensor) -> torch.Tensor:
    if pred.shape[2] != len(JOINT_WEIGHTS):
        raise ConfigError(
            f"the weighted loss terms are defined for the {len(JOINT_WEIGHTS)} joints of Human3.6M, the data has "
            f"{pred.shape[2]}; set weighted_mpjpe and weighted_difference to 0 in the recipe"
        )
    return pred.new_tensor(JOINT_WEIGHTS)
