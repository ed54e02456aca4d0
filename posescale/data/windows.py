"""Windows of T frames over prepared data: what models are trained and scored on."""

import warnings
from typing import Literal, TypeVar

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch.utils.data import Dataset

from posescale.data.camera import normalise_screen
from posescale.data.clips import cut
from posescale.data.prepared import PreparedData, Split
from posescale.data.scored import videos
from posescale.data.units import unit_of
from posescale.errors import ConfigError, DataError
from posescale.metrics.protocols import Protocol, protocol

__all__ = ["ClipWindows", "collate", "mean_pose", "mirror", "normalise_screen", "screen_inputs", "track"]

Batch = tuple[torch.Tensor, torch.Tensor]
Poses = TypeVar("Poses", torch.Tensor, np.ndarray)


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
        windows: which frames each window reads (`posescale.data.clips.Windows`).
        rules: the data's protocol, which decides the 2D input and the labels.
    """

    def __init__(
        self, data: PreparedData, split: Split, frames: int, stride: int | None = None,
        input_2d: Literal["detections", "exact"] | None = None, rule: str = "strided", rules: Protocol | None = None,
    ) -> None:  # fmt: skip
        """Choose the windows.

        Args:
            data: an opened prepared folder.
            split: which of its sequences.
            frames: T.
            stride: frames between the starts of windows, for the rules that have one; T when not given.
            input_2d: detections, or the exact 2D with confidence 1; the protocol's choice when not given.
            rule: how sequences are cut (`posescale.data.clips`). Sequences that give no window are left out, with a
                warning that counts them.
            rules: the protocol; the data's own when not given.

        Raises:
            ConfigError: an argument is out of range, or there is no such rule or protocol.
            DataError: the split is empty or gives no window, or the data lack what the protocol needs.
        """
        self.data, self.split, self.frames = data, split, frames
        self.rules = rules or protocol(data.index.protocol)
        self.unit = unit_of(data, self.rules)
        self.input_2d = input_2d or self.rules.input_2d
        self._source = track(data, self.input_2d)
        self.sequences = data.sequences(split)
        if not self.sequences:
            raise DataError(f"{data.folder}: there is no sequence in split {split!r}")
        self.windows = cut(rule, videos(data, split), frames, stride)
        self._check_short()
        self._offset = np.array([s.start for s in self.sequences])
        self._length = np.array([s.length for s in self.sequences])
        self._size = np.array([[s.width, s.height] for s in self.sequences], dtype=np.float32)
        self._label_width = np.array([self.rules.label_width or s.width for s in self.sequences], dtype=np.float32)

    @property
    def sequence(self) -> np.ndarray:
        """(N,) number of each window's sequence in `sequences`."""
        return self.windows.sequence

    @property
    def start(self) -> np.ndarray:
        """(N,) first frame of each window within its sequence."""
        return self.windows.start

    def _check_short(self) -> None:
        lengths = [s.length for s in self.sequences]
        used = len(np.unique(self.windows.sequence))
        if not used:
            raise DataError(
                f"{self.data.folder}: all {len(lengths)} sequences of split {self.split!r} are shorter than "
                f"{self.frames} frames (the longest has {max(lengths)}); choose fewer frames"
            )
        if used < len(lengths):
            warnings.warn(
                f"{self.data.folder}: {len(lengths) - used} of {len(lengths)} sequences of split {self.split!r} are "
                f"shorter than {self.frames} frames and are left out",
                stacklevel=3,
            )

    def __len__(self) -> int:
        return len(self.windows)

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
            the protocol's labels (`posescale.data.units`), relative to the root joint. Both float32.
        """
        chosen = np.asarray(indices, dtype=np.int64)
        sequence = self.sequence[chosen]
        rows = self._offset[sequence][:, None] + self.windows.rows(chosen, self._length)
        width, height = (self._size[sequence, side][:, None, None] for side in (0, 1))
        inputs = screen_inputs(self._source[rows], width, height)
        poses = self.data.poses[rows]
        targets = poses - poses[..., self.rules.root, None, :]
        if self.rules.labels != "metres":
            targets *= np.float32(self.unit.per_pose(self._label_width[sequence]))[..., None, None, None]
        return torch.from_numpy(inputs), torch.from_numpy(targets)


def screen_inputs(pixels: np.ndarray, width: ArrayLike, height: ArrayLike) -> np.ndarray:
    """What a model sees: pixels `(..., J, 2 or 3)` as x, y in screen units and confidence, `(..., J, 3)` float32.

    The confidence is 1 where the pixels have none.
    """
    inputs = np.ones((*pixels.shape[:-1], 3), dtype=np.float32)
    inputs[..., :2] = normalise_screen(pixels[..., :2], width, height)
    if pixels.shape[-1] == 3:
        inputs[..., 2] = pixels[..., 2]
    return inputs


def track(data: PreparedData, input_2d: str) -> np.ndarray:
    """The array of a 2D track in pixels: (F, J, 3) with confidence, or (F, J, 2).

    Raises:
        ConfigError: `input_2d` is neither `detections` nor `exact`.
        DataError: the data do not have it.
    """
    if input_2d not in ("detections", "exact"):
        raise ConfigError(f"input_2d is {input_2d!r}; choose detections or exact")
    if input_2d == "exact" and data.exact is None and data.index.space == "image":
        return data.poses[..., :2]  # the label's own x and y
    found = data.arrays.get(input_2d)
    if found is None:
        raise DataError(f"{data.folder}: has no {input_2d} 2D; it has {', '.join(data.arrays)}")
    return found


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
