"""Controls: predictors whose errors are known or trivially obtained. A result that does not beat them says nothing.

b clips, T frames, J joints; poses are root-relative metres, as targets are. numpy only.
"""

from collections.abc import Iterable
from typing import Literal, Self

import numpy as np

from posescale.errors import ConfigError, DataError, ShapeError


class Control:
    """One interface for all: learn what there is to learn from training poses, then answer for clips."""

    def fit(self, targets: Iterable[np.ndarray]) -> Self:
        """Learn from batches of training poses `(b, T, J, 3)`; most controls have nothing to learn."""
        return self

    def predict(self, inputs: np.ndarray, targets: np.ndarray, before: np.ndarray) -> np.ndarray:
        """Poses `(b, T, J, 3)` for a batch of clips.

        Args:
            inputs: `(b, T, J, 3)` key points with confidence, which a model would see.
            targets: `(b, T, J, 3)` true poses.
            before: `(b, J, 3)` true pose of the frame before each clip; the clip's own first where a sequence begins.

        Raises:
            ConfigError, ShapeError: what a control cannot answer; see each.
        """
        raise NotImplementedError


class GroundTruth(Control):
    """The truth itself: every error must be exactly 0.0, or the evaluation is wrong."""

    def predict(self, inputs: np.ndarray, targets: np.ndarray, before: np.ndarray) -> np.ndarray:
        """The targets."""
        return targets.copy()


class MeanPose(Control):
    """The mean training pose for every frame: what is known without looking.

    Attributes:
        mean: `(J, 3)`, None before `fit`.
    """

    mean: np.ndarray | None = None

    def fit(self, targets: Iterable[np.ndarray]) -> Self:
        """Mean over all frames of all batches, accumulated in float64.

        Raises:
            DataError: there is no frame at all.
        """
        total, frames = 0.0, 0
        for batch in targets:
            total = total + batch.sum(axis=(0, 1), dtype=np.float64)
            frames += batch.shape[0] * batch.shape[1]
        if not frames:
            raise DataError("mean_pose: the training split gave no frame, so there is no mean pose")
        self.mean = total / frames
        return self

    def predict(self, inputs: np.ndarray, targets: np.ndarray, before: np.ndarray) -> np.ndarray:
        """The mean pose, for every frame.

        Raises:
            ConfigError: `fit` was not called.
        """
        if self.mean is None:
            raise ConfigError("mean_pose: call fit with the training poses first")
        return np.broadcast_to(self.mean, targets.shape).astype(targets.dtype)


class CopyPrevious(Control):
    """The true pose of the previous frame: what a slow motion makes easy, and an upper bound on frame-rate effects."""

    def predict(self, inputs: np.ndarray, targets: np.ndarray, before: np.ndarray) -> np.ndarray:
        """The targets, one frame late.

        Raises:
            ShapeError: `before` does not hold one pose per clip.
        """
        if before.shape != targets[:, 0].shape:
            raise ShapeError(f"copy_previous: before has shape {before.shape}, expected {targets[:, 0].shape}")
        return np.concatenate([before[:, None].astype(targets.dtype), targets[:, :-1]], axis=1)


class InterpolateVisible(Control):
    """An oracle: the truth where a joint is seen, and where not, what lies between the frames before and after.

    It bounds what neighbouring frames can tell. Straight lines between the nearest frames in which the joint is seen;
    the nearer one alone where the other is out of reach; NaN where both are.

    Args:
        reach: frames to either side; None for any distance.
    """

    def __init__(self, reach: int | None = None) -> None:
        if reach is not None and reach < 0:
            raise ConfigError(f"interpolate_visible: reach must be 0 or more frames, found {reach}")
        self.reach = reach

    def predict(self, inputs: np.ndarray, targets: np.ndarray, before: np.ndarray) -> np.ndarray:
        """The targets where the confidence in `inputs` is above 0, interpolated where not; NaN out of reach."""
        answer = np.full(targets.shape, np.nan)
        for clip, joint in np.ndindex(targets.shape[0], targets.shape[2]):
            seen = np.flatnonzero(inputs[clip, :, joint, 2] > 0)
            if len(seen):
                answer[clip, :, joint] = self._lines(targets[clip, :, joint], seen)
        return answer

    def _lines(self, truth: np.ndarray, seen: np.ndarray) -> np.ndarray:
        """(T, C) of one joint."""
        time, reach = np.arange(len(truth)), len(truth) if self.reach is None else self.reach
        before = seen[(np.searchsorted(seen, time, side="right") - 1).clip(min=0)]
        after = seen[np.searchsorted(seen, time).clip(max=len(seen) - 1)]
        gaps = np.stack([time - before, after - time]).astype(float)  # below 0: nothing on that side
        near = (gaps >= 0) & (gaps <= reach)
        pull = np.where(near, 1 / np.maximum(gaps, 1e-9), 0.0)  # a line weighs its ends by the inverse of the gaps
        total = pull.sum(axis=0)
        known = total > 0
        line = np.full(truth.shape, np.nan)
        ends = pull[0, :, None] * truth[before] + pull[1, :, None] * truth[after]
        line[known] = ends[known] / total[known, None]
        return line


class Null(Control):
    """The identity: what a timing costs when nothing is computed. It predicts no pose."""

    def __call__(self, inputs: np.ndarray) -> np.ndarray:
        """The input itself, not a copy."""
        return inputs

    def predict(self, inputs: np.ndarray, targets: np.ndarray, before: np.ndarray) -> np.ndarray:
        """Refused.

        Raises:
            ConfigError: always; an error in millimetres of key points would mean nothing.
        """
        raise ConfigError("null is a control for timings and predicts no pose; score ground_truth or mean_pose instead")


CONTROLS = {
    "ground_truth": GroundTruth, "mean_pose": MeanPose, "copy_previous": CopyPrevious,
    "interpolate_visible": InterpolateVisible, "null": Null,
}  # fmt: skip


def control(
    kind: Literal["ground_truth", "mean_pose", "copy_previous", "interpolate_visible", "null"], reach: int | None = None
) -> Control:
    """Build a control by name; `reach` is that of interpolate_visible.

    Raises:
        ConfigError: there is no such control.
    """
    if kind not in CONTROLS:
        raise ConfigError(f"control: kind must be one of {', '.join(CONTROLS)}, found {kind!r}")
    return CONTROLS[kind](reach) if kind == "interpolate_visible" else CONTROLS[kind]()
