"""PCK and AUC of 3D poses, and the tables of MPI-INF-3DHP (Mehta et al., 3DV 2017; official MATLAB evaluation)."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from posescale.metrics.pose import Array, PoseInputError, checked

JOINTS_3DHP = (
    "head_top", "neck", "right_shoulder", "right_elbow", "right_wrist", "left_shoulder", "left_elbow", "left_wrist",
    "right_hip", "right_knee", "right_ankle", "left_hip", "left_knee", "left_ankle", "pelvis", "spine", "head",
)  # fmt: skip
GROUPS_3DHP: Mapping[str, tuple[int, ...]] = {
    "head": (0,), "neck": (1,), "shoulder": (2, 5), "elbow": (3, 6), "wrist": (4, 7),
    "hip": (8, 11), "knee": (9, 12), "ankle": (10, 13),
}  # fmt: skip
_GROUPED = [joint for joints in GROUPS_3DHP.values() for joint in joints]  # pelvis, spine and head are in no group
PELVIS_3DHP = 14
PCK_THRESHOLD_3DHP = 150.0  # mm
AUC_THRESHOLDS_3DHP = tuple(range(0, 151, 5))  # mm; strict comparison, so the first is never met


def pck(pred: ArrayLike, target: ArrayLike, threshold: float) -> float:
    """Fraction of all joints of all frames whose error is below `threshold` (strictly, as 3DHP counts).

    Args:
        pred: (F, J, 3).
        target: (F, J, 3), in the unit of `threshold`.
        threshold: distance below which a joint counts as found.

    Returns:
        0..1; NaN when there is no frame.

    Raises:
        PoseInputError: wrong axes, different shapes, NaN or infinity, a threshold that is not a number.
    """
    return auc(pred, target, [threshold])


def auc(pred: ArrayLike, target: ArrayLike, thresholds: ArrayLike) -> float:
    """Area under the PCK curve: the mean of `pck` over the thresholds.

    Args:
        pred: (F, J, 3).
        target: (F, J, 3), in the unit of `thresholds`.
        thresholds: one or more distances; 3DHP takes 0, 5, ... 150 mm.

    Returns:
        0..1; NaN when there is no frame.

    Raises:
        PoseInputError: wrong axes, different shapes, NaN or infinity, thresholds that are not numbers.
    """
    limits = np.atleast_1d(np.asarray(thresholds, dtype=np.float64))
    if limits.ndim != 1 or limits.size == 0 or np.isnan(limits).any():
        raise PoseInputError(f"thresholds must be one or more distances, found {thresholds!r}")
    pred, target = checked(pred, target)
    return float(_found(np.linalg.norm(pred - target, axis=-1), limits).mean()) if len(pred) else float("nan")


def _found(errors: Array, limits: Array) -> Array:
    """(J,) fraction of frames in which each joint's error (F, J) is below a limit, averaged over limits.

    One sort per joint instead of a comparison per limit: memory does not grow with the number of limits.
    """
    ranks = [np.searchsorted(column, limits, side="left") for column in np.sort(errors, axis=0).T]
    return np.mean(ranks, axis=1) / len(errors)


@dataclass(frozen=True)
class ThreeDhpTable:
    """One row of the official tables.

    Attributes:
        frames: valid frames behind the row.
        mpjpe: mean error in mm of each of the 17 joints and their `average` (the pelvis counts, as 0).
        pck: fraction below 150 mm by joint group, and `total` over the 14 grouped joints.
        auc: mean of the fractions below 0, 5, ... 150 mm by joint group, and `total`.
    """

    frames: int
    mpjpe: dict[str, float]
    pck: dict[str, float]
    auc: dict[str, float]


def threedhp_frames(pred: ArrayLike, target: ArrayLike) -> dict[str, Array]:
    """PCK and AUC of each frame over the 14 grouped joints; their means over frames are the totals of the tables.

    Args:
        pred: (F, 17, 3) in mm, 3DHP joint order.
        target: (F, 17, 3) in mm; both are made relative to the pelvis here.

    Returns:
        `pck` and `auc`, (F,) in percent.

    Raises:
        PoseInputError: wrong axes, different shapes, another number of joints, NaN or infinity.
    """
    errors = _relative_errors(*checked(pred, target))[:, _GROUPED]
    limits = np.array(AUC_THRESHOLDS_3DHP, dtype=np.float64)
    # Each error is below as many thresholds as lie right of it: no array of frames x joints x thresholds is needed.
    below = len(limits) - np.searchsorted(limits, errors, side="right")
    return {
        "pck": 100 * (errors < PCK_THRESHOLD_3DHP).mean(axis=1),
        "auc": 100 * below.mean(axis=1) / len(limits),
    }


def _relative_errors(pred: Array, target: Array) -> Array:
    """(F, 17) distances after both poses were moved to their pelvis."""
    if pred.shape[1] != len(JOINTS_3DHP):
        raise PoseInputError(f"expected 17 joints in 3DHP order, found {pred.shape[1]}")
    relative = (pred - pred[:, [PELVIS_3DHP]]) - (target - target[:, [PELVIS_3DHP]])
    return np.linalg.norm(relative, axis=-1)


def threedhp_tables(
    pred: ArrayLike, target: ArrayLike, labels: ArrayLike, valid: ArrayLike | None = None
) -> dict[str, ThreeDhpTable]:
    """The MPI-INF-3DHP evaluation, split by sequence or by activity.

    Args:
        pred: (F, 17, 3) in mm, 3DHP joint order (`JOINTS_3DHP`).
        target: (F, 17, 3) in mm; both are made relative to the pelvis here.
        labels: (F,) the sequence or activity of each frame.
        valid: (F,) truth values; only valid frames count, all when not given.

    Returns:
        a table per label, in order of first appearance, and "all" over all valid frames (the figures papers print).

    Raises:
        PoseInputError: wrong axes or lengths, NaN or infinity in a valid frame, no valid frame at all.
    """
    names = np.asarray(labels).astype(str)
    keep = np.ones(len(names), bool) if valid is None else np.asarray(valid).astype(bool)
    if names.ndim != 1 or keep.shape != names.shape or not len(np.shape(pred)) or len(pred) != len(names):
        shapes = f"pred {np.shape(pred)}, labels {np.shape(labels)}, valid {keep.shape}"
        raise PoseInputError(f"one label and one validity per frame are needed; found {shapes}")
    if np.shape(target) != np.shape(pred):
        raise PoseInputError(
            f"pred has shape {np.shape(pred)} and target {np.shape(target)}; both must be (frames, 17, 3)"
        )
    pred, target = checked(np.asarray(pred)[keep], np.asarray(target)[keep])
    if not len(pred):
        raise PoseInputError("expected at least one valid frame of 17 joints in 3DHP order, found none")
    errors = _relative_errors(pred, target)
    names = names[keep]
    tables = {name: _threedhp_table(errors[names == name]) for name in dict.fromkeys(names.tolist())}
    return tables | {"all": _threedhp_table(errors)}


def _threedhp_table(errors: Array) -> ThreeDhpTable:
    by_joint = errors.mean(axis=0)
    return ThreeDhpTable(
        frames=len(errors),
        mpjpe=dict(zip(JOINTS_3DHP, by_joint.tolist(), strict=True)) | {"average": float(by_joint.mean())},
        pck=_by_group(_found(errors, np.array([PCK_THRESHOLD_3DHP]))),
        auc=_by_group(_found(errors, np.array(AUC_THRESHOLDS_3DHP, dtype=np.float64))),
    )


def _by_group(found: NDArray[np.float64]) -> dict[str, float]:
    groups = {name: float(found[list(joints)].mean()) for name, joints in GROUPS_3DHP.items()}
    return groups | {"total": float(found[_GROUPED].mean())}
