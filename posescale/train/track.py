"""What differs between the tasks in training: data, targets, loss, and the number that validation watches.

One training loop (`fit`, `run`, `module`, `resume`, `results`) serves every task; a task is a `Track`.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import nn
from torch.utils.data import Dataset

from posescale.train.sampler import EpochBatches

if TYPE_CHECKING:
    from posescale.train.run import Run


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

    Attributes:
        watched: what validation measures.
        facts: `dataset`, `protocol`, `data_digest`, and what else of the data a record names.
        noted: what a weights file says of the data beside them.
        rules: what the targets depend on beside data and recipe, as plain values.
        arguments: the network's constructor arguments that data and T dictate.
    """

    watched: Watched
    facts: dict[str, Any]
    noted: dict[str, Any]
    rules: dict[str, Any]
    arguments: dict[str, Any]

    @abstractmethod
    def __init__(self, run: "Run") -> None:
        """Open the data of a run.

        Raises:
            ConfigError: the recipe does not suit the task or the data.
            DataError: the data cannot be read.
        """

    def check(self) -> None:
        """Raise ConfigError where the run asks for what the data cannot give."""
        return

    @abstractmethod
    def begin(self, model: nn.Module, start: Path) -> None:
        """Give a model the weights of a file to start from.

        Raises:
            CheckpointError: they cannot be read or do not fit.
        """

    @abstractmethod
    def training_clips(self, **place: Any) -> tuple[Dataset, EpochBatches]:
        """The clips to train on, and the batches of their entries; `place` is epoch, rank and world."""

    @abstractmethod
    def validation_clips(self) -> Dataset | None:
        """The clips to validate on; None where the data have none."""

    @staticmethod
    @abstractmethod
    def collate(samples: list[Any]) -> Any:
        """One batch of clips."""

    @abstractmethod
    def training(self, batch: Any) -> tuple[torch.Tensor, Any]:
        """Model input `(B, ...)` and target of a training batch."""

    def validation(self, batch: Any) -> tuple[torch.Tensor, Any]:
        """Model input `(B, ...)` and target of a validation batch."""
        return self.training(batch)

    @abstractmethod
    def loss(self, pred: torch.Tensor, target: Any) -> torch.Tensor:
        """The scalar to be minimised, a mean over clips."""

    @abstractmethod
    def judge(self, pred: torch.Tensor, target: Any) -> torch.Tensor:
        """Numbers `(n,)`, float64, whose mean over the validation split is `watched`."""
