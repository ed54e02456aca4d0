"""Rules that cut sequences into windows of T frames, by name: which frames each window reads, which of them count.

    strided         training: a window every `stride` frames, inside a sequence; shorter sequences give none
    official_clips  MotionBERT line: `strided`; a sequence shorter than T is resampled to T frames at random, unless it
                    is the last one, which is lost; all frames of a window count
    tail_resampled  MotionAGFormer's 3DHP training: a window every `stride` frames to the very end; those that reach
                    over it are what is left, resampled evenly to T frames
    chunks          MixSTE's training: ceil(F / T) windows side by side, the overhang split between both ends
    every_frame     windows side by side, the last of which ends with the sequence and counts for its new frames only
    last_twice      MixSTE's test: the same windows, all of whose frames count
    centred_valid   one window around each valid frame (each frame, where none is marked), which alone counts

Frames that a window reads beyond an end of its sequence repeat the frame at that end.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from posescale.errors import ConfigError


@dataclass(frozen=True)
class Videos:
    """The sequences that a rule cuts.

    Attributes:
        lengths: frames of each.
        valid: for each the (F,) flags of the frames that are scored; None when all are.
        before: lengths of sequences that the official reader cuts earlier with the same random numbers.
    """

    lengths: list[int]
    valid: list[np.ndarray] | None = None
    before: list[int] = field(default_factory=list)


@dataclass(frozen=True)
class Windows:
    """Windows of `frames` frames.

    Attributes:
        frames: T.
        sequence: (W,) number of each window's sequence.
        start: (W,) its first frame within the sequence; may be negative.
        first, stop: (W,) its outputs first .. stop (counted within the window) are scored.
        resampled: frames (T,) of the windows that do not read neighbouring ones, by window number.
    """

    frames: int
    sequence: np.ndarray
    start: np.ndarray
    first: np.ndarray
    stop: np.ndarray
    resampled: dict[int, np.ndarray] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.start)

    def rows(self, chosen: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        """Frames (w, T), within their sequences, that the chosen windows (w,) read.

        Args:
            chosen: window numbers.
            lengths: frames of every sequence.
        """
        last = np.asarray(lengths)[self.sequence[chosen]][:, None] - 1
        rows = np.clip(self.start[chosen][:, None] + np.arange(self.frames), 0, last)
        if self.resampled:
            for place, window in enumerate(chosen.tolist()):
                if window in self.resampled:
                    rows[place] = self.resampled[window]
        return rows

    def counted(self, chosen: np.ndarray) -> np.ndarray:
        """Which outputs (w, T) of the chosen windows are scored."""
        place = np.arange(self.frames)
        return (place >= self.first[chosen][:, None]) & (place < self.stop[chosen][:, None])


Row = tuple[int, int, int, int]  # sequence, start, first, stop


def cut(rule: str, videos: Videos, frames: int, stride: int | None = None) -> Windows:
    """Cut sequences by a rule.

    Args:
        rule: its name, as in the module's text.
        videos: the sequences.
        frames: T.
        stride: frames between the starts of windows, for the rules that have one; T when not given.

    Raises:
        ConfigError: no such rule, or `frames` or `stride` is below 1.
    """
    stride = frames if stride is None else stride
    if frames < 1 or stride < 1:
        raise ConfigError(f"windows of {frames} frames every {stride!r}: frames and stride must be 1 or more")
    if rule not in RULES:
        raise ConfigError(f"no rule is called {rule!r}; there are {', '.join(RULES)}")
    return RULES[rule](videos, frames, stride)


def cover(length: int, frames: int) -> list[tuple[int, int]]:
    """Windows that score every frame of a sequence exactly once (the rule `every_frame`).

    Args:
        length: frames of the sequence.
        frames: T, frames of a window.

    Returns:
        Pairs (start, first_scored): the window is frames start .. start + T of the sequence, and its own frames
        first_scored .. min(T, length) (counted within the window) are scored.

    Raises:
        ConfigError: `length` or `frames` is below 1.
    """
    if length < 1 or frames < 1:
        raise ConfigError(f"cover: a sequence of {length} frames and windows of {frames}; both must be at least 1")
    windows = [(start, 0) for start in range(0, length - frames + 1, frames)]
    rest = length % frames
    if rest:
        windows.append((max(0, length - frames), frames - rest if windows else 0))
    return windows


def resample(length: int, frames: int, random: np.random.RandomState) -> np.ndarray:
    """Frames (T,) by which MotionBERT's reader stretches a video shorter than a window: each evenly spaced position is
    rounded down or up by a fair coin, then all are sorted.
    """
    position = np.linspace(0, length, frames, endpoint=False)
    down = random.randint(2, size=frames) == 1
    return np.sort(np.where(down, np.floor(position), np.ceil(position))).clip(max=length - 1).astype(np.int64)


def _windows(frames: int, rows: list[Row], resampled: dict[int, np.ndarray] | None = None) -> Windows:
    table = np.array(rows, dtype=np.int64).reshape(-1, 4)
    return Windows(frames, *np.ascontiguousarray(table.T), resampled or {})


def _strided(videos: Videos, frames: int, stride: int) -> Windows:
    starts = [(n, s) for n, length in enumerate(videos.lengths) for s in range(0, length - frames + 1, stride)]
    return _windows(frames, [(n, start, 0, frames) for n, start in starts])


def _official_clips(videos: Videos, frames: int, stride: int) -> Windows:
    random = np.random.RandomState(0)  # the official seed; MT19937 draws are the same everywhere
    for length in videos.before[:-1]:
        if length < frames:
            resample(length, frames, random)
    rows: list[Row] = []
    resampled = {}
    for n, length in enumerate(videos.lengths):
        if length >= frames:
            rows += [(n, start, 0, frames) for start in range(0, length - frames + 1, stride)]
        elif n < len(videos.lengths) - 1:
            resampled[len(rows)] = resample(length, frames, random)
            rows.append((n, 0, 0, frames))
    return _windows(frames, rows, resampled)


def _tail_resampled(videos: Videos, frames: int, stride: int) -> Windows:
    rows: list[Row] = []
    resampled = {}
    for n, length in enumerate(videos.lengths):
        for start in range(0, length, stride):
            left = min(frames, length - start)
            if left < frames:
                even = np.linspace(0, left, frames, endpoint=False)
                resampled[len(rows)] = start + np.floor(even).clip(max=left - 1).astype(np.int64)
            rows.append((n, start, 0, frames))
    return _windows(frames, rows, resampled)


def _chunks(videos: Videos, frames: int, stride: int) -> Windows:
    rows = []
    for n, length in enumerate(videos.lengths):
        count = -(-length // frames)
        overhang = (count * frames - length) // 2
        rows += [(n, k * frames - overhang, 0, frames) for k in range(count)]
    return _windows(frames, rows)


def _every_frame(videos: Videos, frames: int, stride: int) -> Windows:
    rows = [
        (n, start, first, min(frames, length))
        for n, length in enumerate(videos.lengths)
        for start, first in cover(length, frames)
    ]
    return _windows(frames, rows)


def _last_twice(videos: Videos, frames: int, stride: int) -> Windows:
    rows = [(n, start, 0, frames) for n, length in enumerate(videos.lengths) for start, _ in cover(length, frames)]
    return _windows(frames, rows)


def _centred_valid(videos: Videos, frames: int, stride: int) -> Windows:
    half, rows = (frames - 1) // 2, []
    for n, length in enumerate(videos.lengths):
        scored = range(length) if videos.valid is None else np.flatnonzero(videos.valid[n]).tolist()
        rows += [(n, frame - half, half, half + 1) for frame in scored]
    return _windows(frames, rows)


RULES: dict[str, Callable[[Videos, int, int], Windows]] = {
    "strided": _strided, "official_clips": _official_clips, "tail_resampled": _tail_resampled, "chunks": _chunks,
    "every_frame": _every_frame, "last_twice": _last_twice, "centred_valid": _centred_valid,
}  # fmt: skip
