"""Poses of clips of any length, whole or as a stream, from models that see T frames at a time.

A seq2seq model sees windows of T frames that start every S = T - overlap frames; the last one is moved back so that it
ends with the clip. Where windows overlap their poses are cross-faded: a window's weight rises linearly over its first
`overlap` frames and falls over its last, which spreads the difference of two windows into the smallest equal steps.
A seq2frame model sees one window centred on each frame. Windows that reach over an end repeat the frame there.

    poses = posescale.lift(model, keypoints, frames=243)           # (F, J, 2 or 3) to (F, J, 3)

    stream = posescale.LiftStream(model, frames=243)               # the same numbers, frame by frame
    for frame in camera:
        show(stream.push(frame[None]))                             # what has become final, perhaps nothing
    show(stream.finish())
"""

from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import nn

from posescale.data.camera import normalise_screen
from posescale.data.windows import mirror
from posescale.errors import ConfigError, DataError

Output = Literal["seq2seq", "seq2frame"]
Flip = tuple[list[int], list[int]]
FARTHEST = 10.0  # screen units; keypoints beyond it are pixels


def lift(
    model: nn.Module,
    keypoints: np.ndarray,
    *,
    frames: int | None = None,
    output: Output | None = None,
    overlap: int | None = None,
    size: tuple[int, int] | None = None,
    flip: Flip | None = None,
    batch: int = 1,
) -> np.ndarray:
    """Poses of a clip of any length.

    Args:
        model: in evaluation mode; (B, T, J, 3) to (B, T, J, 3), or to (B, 1, J, 3) for the frame (T - 1) // 2.
        keypoints: (F, J, 2) x, y, or (F, J, 3) with a confidence (1 where there is none); in screen units as of
            `posescale.data.camera.normalise_screen`, or in pixels with `size`.
        frames: T; the model's own `frames` when not given.
        output: `seq2seq` or `seq2frame`; seen from the model's first answer when not given.
        overlap: frames that neighbouring windows share, 0 to T - 1; half of T when not given. seq2seq only.
        size: width and height of the picture, for keypoints in pixels.
        flip: left and right joints, to average with the mirror image's pose; None not to.
        batch: windows per call. More is faster and rounds differently in the last digit.

    Returns:
        (F, J, 3) in the model's unit and type.

    Raises:
        ConfigError: a setting is out of range, T is not known, or the model answers with an unexpected shape.
        DataError: the keypoints have a wrong shape, NaN or infinity, or look like pixels without `size`.
    """
    stream = LiftStream(model, frames=frames, output=output, overlap=overlap, size=size, flip=flip, batch=batch)
    return np.concatenate([stream.push(keypoints), stream.finish()])


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


class LiftStream:
    """Poses as frames come in; what `lift` gives for the whole clip, bit for bit at the same `batch`.

    Memory is bounded: some T + batch * S frames of keypoints and poses, whatever the length.

    Args:
        model, frames, output, overlap, size, flip, batch: as of `lift`.
        watch_seams: keep the steps between frames for `seams`; some bytes per frame.

    Attributes:
        frames: T.
        latency: frames of look-ahead: a frame's pose is out once so many frames after it have been pushed. T - 1 plus
            (batch - 1) S for a seq2seq model, T // 2 plus batch - 1 for a seq2frame model; smaller for most frames.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        frames: int | None = None,
        output: Output | None = None,
        overlap: int | None = None,
        size: tuple[int, int] | None = None,
        flip: Flip | None = None,
        batch: int = 1,
        watch_seams: bool = False,
    ) -> None:
        self.model, self.size, self.flip, self.batch = model, size, flip, batch
        self.frames = frames if frames is not None else getattr(model, "frames", None)
        if not isinstance(self.frames, int) or self.frames < 1 or batch < 1:
            raise ConfigError(
                f"frames and batch must be 1 or more, found {self.frames} and {batch}; give the model's T"
            )
        if output not in (None, "seq2seq", "seq2frame"):
            raise ConfigError(f"output must be seq2seq or seq2frame, found {output!r}")
        self._place = next(model.parameters(), torch.empty(0))
        self._overlap = overlap
        self._output = output
        self._windows: _Sliding | _Centred | None = None
        self._waiting: list[_Window] = []
        self._seen = np.empty((0, 0, 3), dtype=np.float32)  # keypoints from frame `_first` on
        self._first = self._count = 0
        self._mix = _Mix()
        self._steps = _Steps() if watch_seams else None
        self._ended = False

    @property
    def output(self) -> Output:
        """`seq2seq` or `seq2frame`.

        Raises:
            ConfigError: not given, and not known before the first frame.
        """
        if self._output is None:
            raise ConfigError("the model's output is not known before the first frame; give output")
        return self._output

    @property
    def overlap(self) -> int | None:
        """Frames that neighbouring windows share; None for a seq2frame model."""
        return None if self.output == "seq2frame" else self.frames - _Sliding(self.frames, self._overlap).stride

    @property
    def latency(self) -> int:
        """Frames of look-ahead at most."""
        if self.output == "seq2frame":
            return self.frames // 2 + self.batch - 1
        return self.frames - 1 + (self.batch - 1) * _Sliding(self.frames, self._overlap).stride

    def push(self, keypoints: np.ndarray) -> np.ndarray:
        """Take in more frames.

        Args:
            keypoints: (n, J, 2 or 3), as of `lift`; n may be 0.

        Returns:
            (m, J, 3): the poses that have become final, in order, none skipped or repeated.

        Raises:
            ConfigError: `finish` was called before, or the model answers with an unexpected shape.
            DataError: as of `lift`, or J differs from the frames before. Nothing of the call was taken in.
        """
        if self._ended:
            raise ConfigError("this stream is finished; make a new one for another clip")
        clean = self._checked(keypoints)
        if not self._count:
            self._seen = clean[:0]
        ready = [self._empty(clean.shape[1])]
        for start in range(0, len(clean), self.frames):  # in pieces, so that a long clip needs no second copy
            piece = clean[start : start + self.frames]
            self._seen = np.concatenate([self._seen, piece])
            self._count += len(piece)
            self._waiting += self._plan().until(self._count)
            ready.append(self._advance())
        return np.concatenate(ready)

    def finish(self) -> np.ndarray:
        """The poses of all frames that are left, (m, J, 3); the stream takes no more frames."""
        if self._ended or not self._count:
            self._ended = True
            return self._empty(self._seen.shape[1])
        self._ended = True
        self._waiting += self._plan().ending(self._count)
        return self._advance()

    def seams(self, quantile: float = 0.95) -> Seams:
        """How large the steps are where windows meet, of all poses given out so far.

        Raises:
            ConfigError: the stream was not made with `watch_seams`.
        """
        if self._steps is None:
            raise ConfigError("seams are not known: make the stream with watch_seams=True")
        return self._steps.summary(quantile)

    def _plan(self) -> "_Sliding | _Centred":
        if self._windows is None:
            if self._output is None:
                rows = np.arange(self.frames).clip(max=len(self._seen) - 1)
                answered = self._call(self._seen[rows][None]).shape[1]
                self._output = "seq2seq" if answered == self.frames else "seq2frame"
            if self._output == "seq2frame" and self._overlap is not None:
                raise ConfigError(
                    f"a seq2frame model sees a window for every frame; overlap {self._overlap} is not used"
                )
            kinds = {
                "seq2seq": lambda: _Sliding(self.frames, self._overlap),
                "seq2frame": lambda: _Centred(self.frames),
            }
            self._windows = kinds[self._output]()
        return self._windows

    def _advance(self) -> np.ndarray:
        while len(self._waiting) >= (1 if self._ended else self.batch):
            part, self._waiting = self._waiting[: self.batch], self._waiting[self.batch :]
            rows = np.stack([window.rows for window in part]) - self._first
            for window, poses in zip(part, self._call(self._seen[rows])):
                self._mix.add(window, poses, self._count)
                if self._steps is not None:
                    self._steps.add(window, poses)
        final = min([self._count if self._ended else self._windows.untouched, *(w.told[0] for w in self._waiting)])
        needed = min([self._count - self.frames, self._windows.oldest, *(int(w.rows[0]) for w in self._waiting)])
        drop = max(0, needed - self._first)
        self._seen, self._first = self._seen[drop:], self._first + drop
        if final <= self._mix.first:
            return self._empty(self._seen.shape[1])
        poses = self._mix.take(final)
        if self._steps is not None:
            self._steps.give(poses)
        return poses

    @torch.inference_mode()
    def _call(self, clips: np.ndarray) -> np.ndarray:
        x = torch.from_numpy(clips).to(self._place)
        poses = self._answer(x)
        if self.flip:
            poses = (poses + mirror(self._answer(mirror(x, *self.flip)), *self.flip)) / 2
        return poses.float().cpu().numpy() if poses.dtype != torch.float64 else poses.cpu().numpy()

    def _answer(self, x: torch.Tensor) -> torch.Tensor:
        poses = self.model(x)
        told = {"seq2seq": [self.frames], "seq2frame": [1], None: [self.frames, 1]}[self._output]
        if poses.ndim != 4 or poses.shape[0] != len(x) or poses.shape[1] not in told or poses.shape[2:] != x.shape[2:]:
            raise ConfigError(
                f"{type(self.model).__name__} answered {tuple(x.shape)} with {tuple(poses.shape)}; expected "
                f"{' or '.join(map(str, told))} frames of the same joints, x, y, z"
            )
        return poses

    def _checked(self, keypoints: np.ndarray) -> np.ndarray:
        """(n, J, 3) float32, x and y in screen units, a confidence of 1 where none was given."""
        found = np.asarray(keypoints)
        known = self._seen.shape[1] if self._count else None
        if found.ndim != 3 or found.shape[2] not in (2, 3) or found.dtype.kind not in "fiu" or not found.shape[1]:
            raise DataError(f"keypoints must be numbers (frames, joints, 2 or 3), found {found.dtype} {found.shape}")
        if known not in (None, found.shape[1]):
            raise DataError(f"the frames before have {known} joints, these have {found.shape[1]}")
        if not np.isfinite(found).all():
            frame, joint, _ = np.argwhere(~np.isfinite(found))[0]
            raise DataError(
                f"keypoints hold NaN or infinity, first in frame {self._count + frame}, joint {joint}; fill gaps first"
            )
        xy = found[..., :2] if self.size is None else normalise_screen(found[..., :2], *self.size)
        if xy.size and self.size is None and np.abs(xy).max() > FARTHEST:
            raise DataError(
                f"keypoints reach {np.abs(xy).max():.0f} screen units, so they are pixels; give size=(width, height)"
            )
        confidence = found[..., 2:] if found.shape[2] == 3 else np.ones_like(xy[..., :1])
        return np.concatenate([xy, confidence], axis=-1).astype(np.float32)

    def _empty(self, joints: int) -> np.ndarray:
        return np.empty((0, joints, 3), dtype=np.float64 if self._place.dtype == torch.float64 else np.float32)


class _Window(NamedTuple):
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


class _Sliding:
    """Overlapping windows of a seq2seq model.

    Attributes:
        stride: S.
        untouched: frames before it are touched by no window to come.
        oldest: first frame that a regular window to come sees.
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
        return self.untouched

    def until(self, count: int) -> list[_Window]:
        """The windows that are complete with `count` frames, and were not before."""
        windows = []
        while self.untouched + self.frames <= count:
            start = self.untouched
            told, rows = (start, start + self.frames), np.arange(self.frames)
            windows.append(_Window(start + rows, told, rows, self.weights))
            self.untouched += self.stride
        return windows

    def ending(self, count: int) -> list[_Window]:
        """The last window, for frames that no other covers: moved back to end with the clip, or padded."""
        start = self.untouched
        covered = start - self.stride + self.frames if start else 0
        if covered >= count:
            return []
        first = max(0, count - self.frames)
        rows = np.arange(first, first + self.frames).clip(max=count - 1)
        answers = np.arange(start, count) - first
        return [_Window(rows, (start, count), answers, self.weights[: count - start])]


class _Centred:
    """One window around each frame, of a seq2frame model."""

    def __init__(self, frames: int) -> None:
        self.frames, self.before = frames, (frames - 1) // 2
        self.untouched = 0

    @property
    def oldest(self) -> int:
        return max(0, self.untouched - self.before)

    def until(self, count: int) -> list[_Window]:
        return self._up_to(count - (self.frames - 1 - self.before), count)

    def ending(self, count: int) -> list[_Window]:
        return self._up_to(count, count)

    def _up_to(self, stop: int, count: int) -> list[_Window]:
        centres = range(self.untouched, max(stop, self.untouched))
        self.untouched = max(stop, self.untouched)
        offsets, one = np.arange(self.frames) - self.before, np.ones(1)
        return [
            _Window((centre + offsets).clip(0, count - 1), (centre, centre + 1), np.zeros(1, dtype=int), one)
            for centre in centres
        ]


class _Mix:
    """Weighted means of windows' answers, frame by frame, from frame `first` on."""

    def __init__(self) -> None:
        self.first = 0
        self._sums: list[np.ndarray] = []
        self._weights: list[float] = []
        self._alone: list[np.ndarray | None] = []  # the answer of a frame's only window, untouched by arithmetic

    def add(self, window: _Window, poses: np.ndarray, count: int) -> None:
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
        """The means of the frames before `stop` that were not taken yet."""
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


class _Steps:
    """Steps of the poses given out, and of every window by itself."""

    def __init__(self) -> None:
        self.given: list[float] = []
        self._own: dict[int, tuple[float, float]] = {}  # frame -> sum of weighted steps, of weights
        self._windows: dict[int, int] = {}  # frame -> windows that have a say in it or in the frame before
        self._last: np.ndarray | None = None

    def add(self, window: _Window, poses: np.ndarray) -> None:
        told = poses[window.answers].astype(np.float64)
        steps = np.linalg.norm(np.diff(told, axis=0), axis=-1).mean(-1)
        for frame in range(window.told[0], window.told[1] + 1):
            self._windows[frame] = self._windows.get(frame, 0) + 1
        for frame, step, weight in zip(range(window.told[0] + 1, window.told[1]), steps, window.weights[1:]):
            total, weights = self._own.get(frame, (0.0, 0.0))
            self._own[frame] = total + weight * step, weights + weight

    def give(self, poses: np.ndarray) -> None:
        chain = poses if self._last is None else np.concatenate([self._last[None], poses])
        self.given += np.linalg.norm(np.diff(chain.astype(np.float64), axis=0), axis=-1).mean(-1).tolist()
        self._last = poses[-1]

    def summary(self, quantile: float) -> Seams:
        meeting = [step for frame, step in enumerate(self.given, 1) if self._windows.get(frame, 0) > 1]
        own = [total / weights for total, weights in self._own.values()]
        values = [float(np.quantile(steps, quantile)) if steps else float("nan") for steps in (meeting, own)]
        return Seams(*values, values[0] / values[1] if values[1] else float("nan"))
