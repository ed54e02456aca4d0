"""Which frames a window sees and answers for, with which weights, and the mean of what windows answer."""

from typing import NamedTuple

import numpy as np

from posescale.errors import ConfigError


class Window(NamedTuple):
    """One call's frames.

    Attributes:
        rows: (T,) frames it sees.
        told: the frames it answers for, first and last but one.
        answers: (told,) which of its answers is each frame's.
        weights: (told,) of its answers.
    """

    rows: np.ndarray
    told: tuple[int, int]
    answers: np.ndarray
    weights: np.ndarray


class Sliding:
    """Overlapping windows of a seq2seq model.

    Attributes:
        stride: S.
        untouched: frames before it are touched by no window to come.
    """

    def __init__(self, frames: int, overlap: int | None) -> None:
        overlap = frames // 2 if overlap is None else overlap
        if not 0 <= overlap < frames:
            raise ConfigError(f"overlap must be 0 to T - 1 = {frames - 1}, found {overlap}")
        self.frames, self.stride = frames, frames - overlap
        self.weights = blend_weights(frames, overlap)
        self.untouched = 0

    @property
    def oldest(self) -> int:
        """First frame that a regular window to come sees."""
        return self.untouched

    def until(self, count: int) -> list[Window]:
        """The windows that are complete with `count` frames, and were not before."""
        windows = []
        while self.untouched + self.frames <= count:
            start = self.untouched
            told, rows = (start, start + self.frames), np.arange(self.frames)
            windows.append(Window(start + rows, told, rows, self.weights))
            self.untouched += self.stride
        return windows

    def ending(self, count: int) -> list[Window]:
        """The last window, for frames that no other covers: moved back to end with the clip, or padded."""
        start = self.untouched
        covered = start - self.stride + self.frames if start else 0
        if covered >= count:
            return []
        first = max(0, count - self.frames)
        rows = np.arange(first, first + self.frames).clip(max=count - 1)
        answers = np.arange(start, count) - first
        return [Window(rows, (start, count), answers, self.weights[: count - start])]


class Centred:
    """One window around each frame, of a seq2frame model."""

    def __init__(self, frames: int) -> None:
        self.frames, self.before = frames, (frames - 1) // 2
        self.untouched = 0

    @property
    def oldest(self) -> int:
        """First frame that a regular window to come sees."""
        return max(0, self.untouched - self.before)

    def until(self, count: int) -> list[Window]:
        """As of `Sliding`."""
        return self._up_to(count - (self.frames - 1 - self.before), count)

    def ending(self, count: int) -> list[Window]:
        """The windows that reach over the end."""
        return self._up_to(count, count)

    def _up_to(self, stop: int, count: int) -> list[Window]:
        centres = range(self.untouched, max(stop, self.untouched))
        self.untouched = max(stop, self.untouched)
        offsets, one = np.arange(self.frames) - self.before, np.ones(1)
        return [
            Window((centre + offsets).clip(0, count - 1), (centre, centre + 1), np.zeros(1, dtype=int), one)
            for centre in centres
        ]


class Mix:
    """Weighted means of windows' answers, frame by frame, from frame `first` on."""

    def __init__(self) -> None:
        self.first = 0
        self._sums: list[np.ndarray] = []
        self._weights: list[float] = []
        self._alone: list[np.ndarray | None] = []  # the answer of a frame's only window, untouched by arithmetic

    def add(self, window: Window, poses: np.ndarray, count: int) -> None:
        """Take in a window's answers (T or 1, J, 3); `count` frames are known."""
        start, stop = window.told
        while self.first + len(self._sums) < min(stop, count):
            self._sums.append(np.zeros(poses.shape[1:]))
            self._weights.append(0.0)
            self._alone.append(None)
        for place, answer, weight in zip(range(start - self.first, stop - self.first), window.answers, window.weights):
            pose = poses[answer]
            self._alone[place] = None if self._weights[place] else pose
            self._sums[place] += weight * pose
            self._weights[place] += weight

    def take(self, stop: int) -> np.ndarray:
        """(frames, J, 3): the means of the frames before `stop` that were not taken yet."""
        count = stop - self.first
        alone, sums, weights = self._alone[:count], self._sums[:count], self._weights[:count]
        dtype = next((pose.dtype for pose in alone if pose is not None), None) or self._dtype
        self._dtype = dtype
        poses = [s / w if pose is None else pose for s, w, pose in zip(sums, weights, alone)]
        self.first = stop
        self._sums, self._weights, self._alone = (x[count:] for x in (self._sums, self._weights, self._alone))
        return np.stack(poses).astype(dtype)


def blend_weights(frames: int, overlap: int) -> np.ndarray:
    """(T,) weights of a window's answers: rising over the first `overlap` frames, falling over the last, 1 between.

    Those of two neighbours add up to a constant over an overlap of at most half a window; in any case the weighted
    mean is taken.
    """
    place = np.arange(frames)
    return np.minimum(np.minimum(place, place[::-1]) + 1, overlap + 1) / (overlap + 1)
