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


def _join(
    frames: int,
    starts: list[np.ndarray],
    first: list[np.ndarray] | int = 0,
    stop: list[np.ndarray] | int | None = None,
    resampled: dict[int, np.ndarray] | None = None,
) -> Windows:
    """Windows from the starts of each sequence, one array a sequence; `first` and `stop` alike, or one number."""

    def column(values: list[np.ndarray] | int) -> np.ndarray:
        return np.full(len(start), values) if isinstance(values, int) else np.concatenate(values)

    start = np.concatenate(starts).astype(np.int64)
    sequence = np.repeat(np.arange(len(starts)), [len(own) for own in starts])
    return Windows(frames, sequence, start, column(first), column(frames if stop is None else stop), resampled or {})


def _inside(length: int, frames: int, stride: int) -> np.ndarray:
    """Starts of the windows inside a sequence."""
    return np.arange(0, max(0, length - frames + 1), stride)


def _strided(videos: Videos, frames: int, stride: int) -> Windows:
    return _join(frames, [_inside(length, frames, stride) for length in videos.lengths])


def _official_clips(videos: Videos, frames: int, stride: int) -> Windows:
    random = np.random.RandomState(0)  # the official seed; MT19937 draws are the same everywhere
    for length in videos.before[:-1]:
        if length < frames:
            resample(length, frames, random)
    starts: list[np.ndarray] = []
    resampled, count = {}, 0
    for n, length in enumerate(videos.lengths):
        if length < frames and n < len(videos.lengths) - 1:
            resampled[count] = resample(length, frames, random)
            starts.append(np.zeros(1))
        else:
            starts.append(_inside(length, frames, stride))
        count += len(starts[-1])
    return _join(frames, starts, resampled=resampled)


def _tail_resampled(videos: Videos, frames: int, stride: int) -> Windows:
    starts = [np.arange(0, length, stride) for length in videos.lengths]
    resampled, count = {}, 0
    for length, own in zip(videos.lengths, starts, strict=True):
        for place in np.flatnonzero(own + frames > length):
            left = length - own[place]
            even = np.linspace(0, left, frames, endpoint=False)
            resampled[count + int(place)] = own[place] + np.floor(even).clip(max=left - 1).astype(np.int64)
        count += len(own)
    return _join(frames, starts, resampled=resampled)


def _chunks(videos: Videos, frames: int, stride: int) -> Windows:
    counts = [-(-length // frames) for length in videos.lengths]
    overhangs = [(count * frames - length) // 2 for count, length in zip(counts, videos.lengths, strict=True)]
    return _join(frames, [np.arange(n) * frames - o for n, o in zip(counts, overhangs, strict=True)])


def _every_frame(videos: Videos, frames: int, stride: int) -> Windows:
    pairs = [np.array(cover(length, frames)) for length in videos.lengths]
    stops = [np.full(len(p), min(frames, length)) for p, length in zip(pairs, videos.lengths, strict=True)]
    return _join(frames, [p[:, 0] for p in pairs], [p[:, 1] for p in pairs], stops)


def _last_twice(videos: Videos, frames: int, stride: int) -> Windows:
    return _join(frames, [np.array(cover(length, frames))[:, 0] for length in videos.lengths])


def _centred_valid(videos: Videos, frames: int, stride: int) -> Windows:
    half = (frames - 1) // 2
    flags = videos.valid or [np.ones(length, dtype=bool) for length in videos.lengths]
    return _join(frames, [np.flatnonzero(valid) - half for valid in flags], half, half + 1)


RULES: dict[str, Callable[[Videos, int, int], Windows]] = {
    "strided": _strided, "official_clips": _official_clips, "tail_resampled": _tail_resampled, "chunks": _chunks,
    "every_frame": _every_frame, "last_twice": _last_twice, "centred_valid": _centred_valid,
}  # fmt: skip
