"""The MPJPE family: errors of 3D poses, one number per frame.

All functions take predictions and targets of shape (F, J, 3) in one unit, F frames and J joints, as anything NumPy
can read; they compute in float64 and answer in the same unit. Definitions: VideoPose3D's `common/loss.py`
(Pavllo et al., CVPR 2019), which the field's tables follow.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from posescale.errors import DataError

Array = NDArray[np.float64]


class PoseInputError(DataError, ValueError):
    """Poses that cannot be compared: wrong axes, different shapes, NaN or infinity."""


def checked(pred: ArrayLike, target: ArrayLike) -> tuple[Array, Array]:
    """Both arguments as float64 arrays of one shape (F, J, 3), J at least 1, all finite.

    Raises:
        PoseInputError: says which argument is wrong, what was found and where.
    """
    arrays = _as_poses(pred, "pred"), _as_poses(target, "target")
    if arrays[0].shape != arrays[1].shape:
        raise PoseInputError(
            f"pred has shape {arrays[0].shape} and target {arrays[1].shape}; both must be (frames, joints, 3) of the "
            "same frames and joints, so cut or re-order one of them first"
        )
    return arrays


def _as_poses(value: ArrayLike, name: str) -> Array:
    try:
        array = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError, RuntimeError) as error:
        raise PoseInputError(f"{name} is not an array of numbers of shape (frames, joints, 3): {error}") from error
    if array.ndim != 3 or array.shape[2] != 3 or array.shape[1] == 0:
        raise PoseInputError(
            f"{name} has shape {array.shape}, expected (frames, joints, 3); flatten batches of clips first"
        )
    if not np.isfinite(array).all():
        frame, joint, _ = np.argwhere(~np.isfinite(array))[0]
        raise PoseInputError(
            f"{name} holds NaN or infinity, first in frame {frame}, joint {joint}; an error of such a pose has no "
            "meaning, so leave these frames out and say so"
        )
    return array


def _distances(pred: Array, target: Array) -> Array:
    return np.linalg.norm(pred - target, axis=-1)


def mpjpe(pred: ArrayLike, target: ArrayLike) -> Array:
    """Mean per joint position error, P1: the mean Euclidean distance over joints.

    Returns:
        (F,), in the unit of the arguments.

    Raises:
        PoseInputError: wrong axes, different shapes, NaN or infinity.
    """
    return _distances(*checked(pred, target)).mean(axis=1)


def n_mpjpe(pred: ArrayLike, target: ArrayLike) -> Array:
    """MPJPE after scaling each predicted frame by its least-squares factor <target, pred> / <pred, pred>.

    Poses should be root-relative: the scale is about the origin. A frame predicted as all zeros has no such factor;
    its error is NaN.

    Returns:
        (F,).

    Raises:
        PoseInputError: wrong axes, different shapes, NaN or infinity.
    """
    pred, target = checked(pred, target)
    power = np.einsum("fjc,fjc->f", pred, pred)
    agreement = np.einsum("fjc,fjc->f", target, pred)
    scale = np.divide(agreement, power, out=np.full_like(power, np.nan), where=power > 0)
    return _distances(scale[:, None, None] * pred, target).mean(axis=1)


def p_mpjpe(pred: ArrayLike, target: ArrayLike) -> Array:
    """MPJPE after the best similarity (rotation without reflection, scale, translation) of each frame, P2.

    A frame in which all joints of the prediction, or all of the target, lie in one point has no such similarity (the
    official code fails there); its error is NaN.

    Returns:
        (F,).

    Raises:
        PoseInputError: wrong axes, different shapes, NaN or infinity.
    """
    pred, target = checked(pred, target)
    errors = np.full(len(pred), np.nan)
    defined = (np.ptp(pred, axis=1) > 0).any(axis=-1) & (np.ptp(target, axis=1) > 0).any(axis=-1)
    errors[defined] = _distances(_aligned(pred[defined], target[defined]), target[defined]).mean(axis=1)
    return errors


def _aligned(pred: Array, target: Array) -> Array:
    """`pred` moved onto `target` by orthogonal Procrustes analysis, frame by frame."""
    pred_mean, target_mean = pred.mean(axis=1, keepdims=True), target.mean(axis=1, keepdims=True)
    pred_centred, target_centred = pred - pred_mean, target - target_mean
    pred_size = np.linalg.norm(pred_centred, axis=(1, 2), keepdims=True)
    target_size = np.linalg.norm(target_centred, axis=(1, 2), keepdims=True)
    covariance = (target_centred / target_size).transpose(0, 2, 1) @ (pred_centred / pred_size)
    u, strength, vt = np.linalg.svd(covariance)
    sign = np.sign(np.linalg.det(u) * np.linalg.det(vt))  # -1 where the best orthogonal map is a reflection
    vt[:, -1] *= sign[:, None]
    strength[:, -1] *= sign
    rotation = vt.transpose(0, 2, 1) @ u.transpose(0, 2, 1)
    scale = strength.sum(axis=-1)[:, None, None] * target_size / pred_size
    return scale * (pred_centred @ rotation) + target_mean


def mpjve(pred: ArrayLike, target: ArrayLike) -> Array:
    """Mean per joint velocity error: MPJPE of the differences between neighbouring frames.

    Returns:
        (F - 1,), unit per frame (not per second); empty for a single frame, which has no velocity.

    Raises:
        PoseInputError: wrong axes, different shapes, NaN or infinity.
    """
    return _difference_error(pred, target, order=1)


def acceleration_error(pred: ArrayLike, target: ArrayLike) -> Array:
    """MPJPE of the second differences x[f - 1] - 2 x[f] + x[f + 1] (MotionAGFormer's `acc_error`).

    Returns:
        (F - 2,), unit per frame squared; empty for fewer than three frames.

    Raises:
        PoseInputError: wrong axes, different shapes, NaN or infinity.
    """
    return _difference_error(pred, target, order=2)


def _difference_error(pred: ArrayLike, target: ArrayLike, order: int) -> Array:
    pred, target = checked(pred, target)
    return _distances(np.diff(pred, n=order, axis=0), np.diff(target, n=order, axis=0)).mean(axis=1)
