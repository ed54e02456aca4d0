"""Windows of T frames over prepared data: what models are trained and scored on."""

import warnings
from typing import Literal, TypeVar

import numpy as np
import torch
from torch.utils.data import Dataset

from posescale.data.camera import normalise_screen
from posescale.data.prepared import PreparedData, Split
from posescale.errors import ConfigError, DataError

__all__ = ["ClipWindows", "collate", "cover", "mean_pose", "mirror", "normalise_screen"]

Batch = tuple[torch.Tensor, torch.Tensor]
Poses = TypeVar("Poses", torch.Tensor, np.ndarray)


def cover(length: int, frames: int) -> list[tuple[int, int]]:
    """Windows that score every frame of a sequence exactly once (the `cover` tail rule).

    Windows do not overlap but for the last, which ends with the sequence and of which only the new frames count.
    A sequence shorter than a window is one window, to be edge-padded; its real frames count.

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


def mirror(poses: Poses, left: list[int], right: list[int]) -> Poses:
    """The mirror image of clips: x negated, left and right joints exchanged. Mirroring twice gives the original.

    Args:
        poses: `(..., J, C)` with x in channel 0 and its origin on the mirror (screen units, or root-relative).
        left, right: joint indices, pairwise.
    """
    order = list(range(poses.shape[-2]))
    for a, b in zip(left, right, strict=True):
        order[a], order[b] = b, a
    mirrored = poses[..., order, :]  # indexing with a list copies
    mirrored[..., 0] *= -1
    return mirrored


def collate(batch: Batch) -> Batch:
    """The identity: `ClipWindows.__getitems__` already returns batched tensors (for DataLoader's `collate_fn`)."""
    return batch


class ClipWindows(Dataset):
    """Windows of `frames` frames of one split; no window crosses from one sequence into the next.

    Attributes:
        sequences: the split's sequences.
        sequence: `(N,)` number of each window's sequence in `sequences`.
        start: `(N,)` first frame of each window within its sequence.
        first_scored: `(N,)` as in `cover`; 0 for windows made by a stride.
    """

    def __init__(
        self, data: PreparedData, split: Split, frames: int, stride: int | Literal["cover"],
        input_2d: Literal["detections", "exact"] = "detections",
    ) -> None:  # fmt: skip
        """Choose the windows.

        Args:
            data: an opened prepared folder.
            split: which of its sequences.
            frames: T.
            stride: frames between the starts of windows; sequences shorter than T are then left out, with a
                warning that counts them. "cover" chooses the windows of `cover` instead and pads short sequences
                by repeating their last frame.
            input_2d: detections, or the exact projection with confidence 1.

        Raises:
            ConfigError: an argument is out of range.
            DataError: the split is empty, or holds no sequence of T frames.
        """
        if frames < 1 or (stride != "cover" and (isinstance(stride, str) or stride < 1)):
            raise ConfigError(f"windows of {frames} frames every {stride!r}: frames and stride must be 1 or more")
        if input_2d not in ("detections", "exact"):
            raise ConfigError(f"input_2d is {input_2d!r}; choose detections or exact")
        self.data, self.split, self.frames, self.stride, self.input_2d = data, split, frames, stride, input_2d
        self.sequences = data.sequences(split)
        self.root = data.index.parents.index(-1)
        if not self.sequences:
            raise DataError(f"{data.folder}: there is no sequence in split {split!r}")
        windows = self._covering() if stride == "cover" else self._strided()
        table = np.array(windows, dtype=np.int64)
        self.sequence, self.start, self.first_scored = table.T
        self._offset = np.array([s.start for s in self.sequences])
        self._end = np.array([s.start + s.length for s in self.sequences])
        self._size = np.array([[s.width, s.height] for s in self.sequences], dtype=np.float32)

    def _covering(self) -> list[tuple[int, int, int]]:
        return [(n, *window) for n, s in enumerate(self.sequences) for window in cover(s.length, self.frames)]

    def _strided(self) -> list[tuple[int, int, int]]:
        lengths = [s.length for s in self.sequences]
        short = sum(length < self.frames for length in lengths)
        if short == len(lengths):
            raise DataError(
                f"{self.data.folder}: all {short} sequences of split {self.split!r} are shorter than {self.frames} "
                f"frames (the longest has {max(lengths)}); choose fewer frames"
            )
        if short:
            warnings.warn(
                f"{self.data.folder}: {short} of {len(lengths)} sequences of split {self.split!r} are shorter than "
                f"{self.frames} frames and are left out",
                stacklevel=3,
            )
        last = [length - self.frames + 1 for length in lengths]
        return [(n, start, 0) for n, stop in enumerate(last) for start in range(0, stop, self.stride)]

    def __len__(self) -> int:
        return len(self.start)

    def __getitem__(self, index: int) -> Batch:
        """One window: input `(T, J, 3)` and target `(T, J, 3)`, as in `__getitems__`."""
        if not -len(self) <= index < len(self):
            raise IndexError(f"window {index} of {len(self)}")
        inputs, targets = self.__getitems__([index])
        return inputs[0], targets[0]

    def __getitems__(self, indices: list[int]) -> Batch:
        """Several windows at once, read from the memory maps.

        Args:
            indices: b window numbers.

        Returns:
            inputs `(b, T, J, 3)`: x, y in screen units (`normalise_screen`) and confidence; targets `(b, T, J, 3)`:
            metres, camera space, relative to the root joint. Both float32.
        """
        chosen = np.asarray(indices, dtype=np.int64)
        sequence = self.sequence[chosen]
        first = self._offset[sequence] + self.start[chosen]
        rows = np.minimum(first[:, None] + np.arange(self.frames), self._end[sequence][:, None] - 1)
        width, height = (self._size[sequence, side][:, None, None] for side in (0, 1))
        source = self.data.detections if self.input_2d == "detections" else self.data.exact
        pixels = source[rows]
        inputs = np.ones((*pixels.shape[:-1], 3), dtype=np.float32)
        inputs[..., :2] = normalise_screen(pixels[..., :2], width, height)
        if self.input_2d == "detections":
            inputs[..., 2] = pixels[..., 2]
        poses = self.data.poses[rows]
        targets = poses - poses[..., self.root, None, :]
        return torch.from_numpy(inputs), torch.from_numpy(targets)


def mean_pose(data: PreparedData, split: Split = "train") -> np.ndarray:
    """The mean root-relative camera-space pose of a split, `(J, 3)` float64 metres: the simplest control there is.

    Raises:
        DataError: the split is empty.
    """
    sequences = data.sequences(split)
    if not sequences:
        raise DataError(f"{data.folder}: there is no sequence in split {split!r}, so it has no mean pose")
    root = data.index.parents.index(-1)
    total = np.zeros((len(data.index.joints), 3))
    for s in sequences:
        poses = data.poses[s.start : s.start + s.length].astype(np.float64)
        total += (poses - poses[:, root, None]).sum(0)
    return total / sum(s.length for s in sequences)
