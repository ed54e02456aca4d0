"""What differs between the tasks in training: data, targets, loss, and what the validation split is watched by.

One training loop (`fit`, `module`, `resume`, `results`) serves every task; a task is a `Track`.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from torch.utils.data import DataLoader

from posescale.recipes import Recipe


@dataclass(frozen=True)
class Watched:
    """The number that validation gives, by which the best epoch is chosen."""

    name: str
    unit: str
    better: Literal["lower", "higher"]

    def best(self, values: Sequence[float]) -> float:
        """The best of some values."""
        return min(values) if self.better == "lower" else max(values)

    def improves(self, value: float, before: Sequence[float]) -> bool:
        """Whether a value is better than all before it."""
        return not before or (self.best([value, *before]) == value and value not in before)


class Track(ABC):
    """One task's side of a training run.

    Args:
        data_dir: prepared data; train and val are read, never test.
        frames: T of the clips.
        seed: of the run.
        recipe: of the run.
        settings: the network's constructor arguments, but for those that `arguments` gives.

    Raises:
        ConfigError: the recipe belongs to another task.
        DataError: the data cannot be read.
    """

    watched: ClassVar[Watched]

    @abstractmethod
    def __init__(
        self, data_dir: Path | str, frames: int, seed: int, recipe: Recipe, settings: Mapping[str, Any]
    ) -> None: ...

    @property
    @abstractmethod
    def facts(self) -> dict[str, Any]:
        """`dataset`, `protocol` and `data_digest`, and what else of the data a record names."""

    @property
    @abstractmethod
    def arguments(self) -> dict[str, Any]:
        """Constructor arguments of the network that the data and T dictate."""

    @abstractmethod
    def loaders(self, epoch: int) -> tuple[DataLoader, DataLoader]:
        """Batches of training clips, from `epoch` on, and of validation clips."""

    def set_epoch(self, epoch: int) -> None:
        """Called before each epoch of training; for what varies by epoch beside the order of clips."""
        return

    @abstractmethod
    def training(self, batch: Any, epoch: int, step: int) -> tuple[torch.Tensor, Any]:
        """Model input `(B, ...)` and target of a training batch, augmented as a function of seed, epoch and step."""

    @abstractmethod
    def validation(self, batch: Any) -> tuple[torch.Tensor, Any]:
        """Model input `(B, ...)` and target of a validation batch."""

    @abstractmethod
    def loss(self, pred: torch.Tensor, target: Any) -> torch.Tensor:
        """The scalar to be minimised."""

    @abstractmethod
    def judge(self, pred: torch.Tensor, target: Any) -> torch.Tensor:
        """Numbers `(n,)`, float64, whose mean over the validation split is `watched`."""
