"""The steps between frames where windows meet, beside the model's own."""

from typing import NamedTuple

import numpy as np

from posescale.inference.windows import Window


class Seams(NamedTuple):
    """How large the steps are where windows meet, beside the model's own.

    A step is the distance between a frame's pose and that of the frame before, averaged over the joints.

    Attributes:
        meeting: quantile of the steps of the poses given out, over frames that several windows share or at which one
            takes over from another.
        own: the same quantile of the steps inside single windows, by their weights, over all frames.
        ratio: meeting over own; a seam stands out from the model's own changes when it is well above 1.
    """

    meeting: float
    own: float
    ratio: float


class Steps:
    """Steps of the poses given out, and of every window by itself."""

    def __init__(self) -> None:
        self.given: list[float] = []
        self._own: dict[int, tuple[float, float]] = {}  # frame -> sum of weighted steps, of weights
        self._windows: dict[int, int] = {}  # frame -> windows that have a say in it or in the frame before
        self._last: np.ndarray | None = None

    def add(self, window: Window, poses: np.ndarray) -> None:
        """Take in a window's answers (T or 1, J, 3)."""
        told = poses[window.answers].astype(np.float64)
        steps = np.linalg.norm(np.diff(told, axis=0), axis=-1).mean(-1)
        for frame in range(window.told[0], window.told[1] + 1):
            self._windows[frame] = self._windows.get(frame, 0) + 1
        for frame, step, weight in zip(range(window.told[0] + 1, window.told[1]), steps, window.weights[1:]):
            total, weights = self._own.get(frame, (0.0, 0.0))
            self._own[frame] = total + weight * step, weights + weight

    def give(self, poses: np.ndarray) -> None:
        """Take in poses (frames, J, 3) that are given out, in order."""
        chain = poses if self._last is None else np.concatenate([self._last[None], poses])
        self.given += np.linalg.norm(np.diff(chain.astype(np.float64), axis=0), axis=-1).mean(-1).tolist()
        self._last = poses[-1]

    def summary(self, quantile: float) -> Seams:
        """Of everything so far."""
        meeting = [step for frame, step in enumerate(self.given, 1) if self._windows.get(frame, 0) > 1]
        own = [total / weights for total, weights in self._own.values()]
        values = [float(np.quantile(steps, quantile)) if steps else float("nan") for steps in (meeting, own)]
        return Seams(*values, values[0] / values[1] if values[1] else float("nan"))
