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

from typing import Literal

import numpy as np
import torch
from torch import nn

from posescale.data.camera import normalise_screen
from posescale.data.windows import mirror
from posescale.errors import ConfigError, DataError
from posescale.inference.seams import Seams, Steps
from posescale.inference.windows import Centred, Mix, Sliding, Window

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
        self._windows: Sliding | Centred | None = None
        self._waiting: list[Window] = []
        self._seen = np.empty((0, 0, 3), dtype=np.float32)  # keypoints from frame `_first` on
        self._first = self._count = 0
        self._mix = Mix()
        self._steps = Steps() if watch_seams else None
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
        return None if self.output == "seq2frame" else self.frames - Sliding(self.frames, self._overlap).stride

    @property
    def latency(self) -> int:
        """Frames of look-ahead at most."""
        if self.output == "seq2frame":
            return self.frames // 2 + self.batch - 1
        return self.frames - 1 + (self.batch - 1) * Sliding(self.frames, self._overlap).stride

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

    def _plan(self) -> "Sliding | Centred":
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
                "seq2seq": lambda: Sliding(self.frames, self._overlap),
                "seq2frame": lambda: Centred(self.frames),
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
