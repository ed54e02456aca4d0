"""PCK of (sub-)JHMDB, as LSTM Pose Machines scores it (Luo et al., CVPR 2018; MATLAB evaluation, commit 68a9212)."""

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from posescale.metrics.pose import PoseInputError

JOINTS_JHMDB = (
    "neck", "belly", "head", "right_shoulder", "left_shoulder", "right_hip", "left_hip", "right_elbow", "left_elbow",
    "right_knee", "left_knee", "right_wrist", "left_wrist", "right_ankle", "left_ankle",
)  # fmt: skip
GROUPS_JHMDB: Mapping[str, tuple[int, ...]] = {
    "Head": (2,), "Sho": (3, 4), "Elb": (7, 8), "Wri": (11, 12), "Hip": (5, 6), "Knee": (9, 10), "Ank": (13, 14),
}  # fmt: skip
LEFT_SHOULDER, RIGHT_HIP = 4, 5
SPLITS = (1, 2, 3)  # published ones; papers report the mean over them
THRESHOLDS = (0.2, 0.1, 0.05)
SMALLEST_TORSO = 1.0  # px; below it the predicted torso is the measure

Normaliser = Literal["person", "torso"]


def tight_box(mask: ArrayLike) -> tuple[float, float, float, float]:
    """x, y, width and height of the tight box of a puppet mask (H, W), as far as the last column and row lie apart.

    Raises:
        PoseInputError: the mask is empty or not two-dimensional.
    """
    mask = np.asarray(mask) != 0
    if mask.ndim != 2 or not mask.any():
        raise PoseInputError(f"a mask (H, W) with a person in it is needed, found shape {mask.shape}, {mask.sum()} set")
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return float(columns[0]), float(rows[0]), float(columns[-1] - columns[0]), float(rows[-1] - rows[0])


def jhmdb_pck(
    pred: ArrayLike,
    target: ArrayLike,
    boxes: ArrayLike | None = None,
    normaliser: Normaliser = "person",
    thresholds: Sequence[float] = THRESHOLDS,
) -> dict[float, dict[str, float]]:
    """Fraction of joints whose error is at most a share of the person's size.

    Args:
        pred: (F, 15, 2) pixels, in the order of `JOINTS_JHMDB`.
        target: (F, 15, 2) pixels, by the same origin.
        boxes: (F, 4) x, y, width, height of the tight box of each puppet mask; needed for `person` alone.
        normaliser: `person`: size is max(width, height) of the box. `torso`: the distance of left shoulder and right
            hip, of the prediction where the target's is below one pixel.
        thresholds: shares of the size.

    Returns:
        by threshold, in 0..1: the groups `Head`, `Sho`, `Elb`, `Wri`, `Hip`, `Knee`, `Ank`; `mean`, of the seven
        groups, as papers print it; `mean_15`, of all joints, as mmpose prints it. NaN when there is no frame.

    Raises:
        PoseInputError: wrong axes, different lengths, NaN or infinity, a box without extent, an unknown normaliser.
    """
    pred, target = _joints(pred, "pred"), _joints(target, "target")
    if pred.shape != target.shape:
        raise PoseInputError(f"pred has {len(pred)} frames and target {len(target)}; score the same frames")
    errors = np.linalg.norm(pred - target, axis=-1)
    sizes = _sizes(pred, target, boxes, normaliser)
    if not len(errors):
        names = (*GROUPS_JHMDB, "mean", "mean_15")
        return {share: dict.fromkeys(names, float("nan")) for share in thresholds}
    return {share: _by_group((errors <= share * sizes[:, None]).mean(axis=0)) for share in thresholds}


def mean_of_splits(splits: Sequence[Mapping[float, Mapping[str, float]]]) -> dict[float, dict[str, float]]:
    """The mean of several splits' tables (sub-JHMDB has three, each counts alike).

    Raises:
        PoseInputError: there is no split, or they differ in thresholds.
    """
    if not splits or any(set(split) != set(splits[0]) for split in splits):
        raise PoseInputError(f"splits of the same thresholds are needed, found {[sorted(split) for split in splits]}")
    return {
        share: {name: float(np.mean([split[share][name] for split in splits])) for name in splits[0][share]}
        for share in splits[0]
    }


def _joints(value: ArrayLike, name: str) -> NDArray[np.float64]:
    array = np.asarray(value, dtype=np.float64)
    if array.ndim != 3 or array.shape[1:] != (len(JOINTS_JHMDB), 2):
        raise PoseInputError(f"{name} must be (frames, 15, 2) in JHMDB's order, found {array.shape}")
    if not np.isfinite(array).all():
        frame, joint, _ = np.argwhere(~np.isfinite(array))[0]
        raise PoseInputError(f"{name} holds NaN or infinity, first in frame {frame}, {JOINTS_JHMDB[joint]}")
    return array


def _sizes(
    pred: NDArray[np.float64], target: NDArray[np.float64], boxes: ArrayLike | None, normaliser: Normaliser
) -> NDArray[np.float64]:
    if normaliser == "torso":
        own, predicted = (np.linalg.norm(p[:, LEFT_SHOULDER] - p[:, RIGHT_HIP], axis=-1) for p in (target, pred))
        return np.where(own < SMALLEST_TORSO, predicted, own)
    if normaliser != "person":
        raise PoseInputError(f"normaliser must be person or torso, found {normaliser!r}")
    sides = np.empty((0, 4)) if boxes is None else np.asarray(boxes, dtype=np.float64)
    if sides.shape != (len(target), 4):
        raise PoseInputError(f"boxes must be ({len(target)}, 4), one tight mask box per frame, found {sides.shape}")
    sizes = sides[:, 2:].max(axis=1)
    if (wrong := ~(np.isfinite(sizes) & (sizes > 0))).any():
        raise PoseInputError(f"the box of frame {int(wrong.argmax())} has no extent: {sides[wrong.argmax()]}")
    return sizes


def _by_group(found: NDArray[np.float64]) -> dict[str, float]:
    groups = {name: float(found[list(joints)].mean()) for name, joints in GROUPS_JHMDB.items()}
    return groups | {"mean": float(np.mean(list(groups.values()))), "mean_15": float(found.mean())}
