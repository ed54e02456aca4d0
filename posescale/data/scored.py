"""What a model is asked under a protocol: for each sequence of a split the windows, and which of their frames count."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from posescale.data.clips import Videos, Windows, cut
from posescale.data.prepared import PreparedData, Split
from posescale.errors import ConfigError, DataError
from posescale.metrics.protocols import Protocol

Output = Literal["seq2seq", "seq2frame"]


@dataclass(frozen=True)
class Question:
    """The windows of one sequence.

    Attributes:
        rows: (W, T) frames that each window reads.
        told: (W, K) frames that it answers: all T, or the centre one for a seq2frame model.
        counted: (W, K) which answers are scored.
    """

    rows: np.ndarray
    told: np.ndarray
    counted: np.ndarray


def videos(data: PreparedData, split: Split) -> Videos:
    """The sequences of a split as a rule of `posescale.data.clips` takes them."""
    found = data.sequences(split)
    earlier = [s.length for s in data.index.sequences if s.split != "test"] if split == "test" else []
    valid = None if data.valid is None else [data.valid[s.rows] for s in found]
    return Videos([s.length for s in found], valid, earlier)


def questions(data: PreparedData, split: Split, rules: Protocol, frames: int, output: Output) -> Iterator[Question]:
    """One question per sequence of a split, in index order, one at a time; without windows where none is scored.

    A seq2frame model answers each frame that the protocol scores from a window centred on it.

    Raises:
        DataError: the split is empty, or no window at all is scored.
    """
    sequences = data.sequences(split)
    if not sequences:
        raise DataError(f"{data.folder}: there is no sequence in split {split!r}")
    windows = cut(rules.windows, videos(data, split), frames)
    if not len(windows):
        raise DataError(
            f"{data.folder}: protocol {rules.id} scores no window of {frames} frames in split {split!r}, whose longest "
            f"sequence has {max(s.length for s in sequences)}; choose fewer frames"
        )
    lengths = np.array([s.length for s in sequences])
    return (_question(windows, number, lengths, frames, output) for number in range(len(lengths)))


def _question(windows: Windows, number: int, lengths: np.ndarray, frames: int, output: Output) -> Question:
    own = np.arange(*np.searchsorted(windows.sequence, [number, number + 1]))
    rows, counted = windows.rows(own, lengths), windows.counted(own)
    if output == "seq2frame":
        return _centred(rows[counted], frames, int(lengths[number]))
    return Question(rows, rows, counted)


def _centred(scored: np.ndarray, frames: int, length: int) -> Question:
    told = np.unique(scored)[:, None]
    rows = np.clip(told + np.arange(frames) - (frames - 1) // 2, 0, length - 1)
    return Question(rows, told, np.ones(told.shape, dtype=bool))


def check_fits(data: PreparedData, rules: Protocol) -> None:
    """Refuse a protocol for data it does not belong to.

    Raises:
        ConfigError: another dataset, other settings (such as the 2D source), another root or number of joints.
    """
    index, root = data.index, data.index.parents.index(-1)
    if rules.dataset and rules.dataset != index.dataset:
        raise ConfigError(f"protocol {rules.id} belongs to {rules.dataset}; {data.folder} holds {index.dataset}")
    for name, wanted in rules.settings.items():
        if index.settings.get(name) != wanted:
            raise ConfigError(
                f"protocol {rules.id} needs data prepared with {name}={wanted}; {data.folder} has "
                f"{name}={index.settings.get(name)} and belongs to {index.protocol}"
            )
    if (rules.joints, rules.root) != (len(index.joints), root):
        raise ConfigError(
            f"protocol {rules.id} scores {rules.joints} joints about joint {rules.root}; {data.folder} has "
            f"{len(index.joints)} with root {root}"
        )
