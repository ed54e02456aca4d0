"""One training run as a Lightning module: loss, optimiser, averaged weights, validation, state after each epoch."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import lightning as L
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from posescale import ops
from posescale.errors import PosescaleError
from posescale.recipes import Recipe
from posescale.train.sampler import MODEL, stream
from posescale.train.track import Track


class Diverged(PosescaleError):
    """The loss or the validation error is no longer a number."""


class Interrupted(PosescaleError):
    """A signal ended the training before its last epoch."""


@dataclass
class Progress:
    """What a run has done so far; part of the state it resumes from.

    Attributes:
        history: one row per finished epoch: epoch (from 1), lr of its last step, loss, and the watched number.
        steps: optimiser steps.
        clips: clips shown to the model.
        seconds: spent in training and validation, over all processes that worked on the run.
        best_epoch: the epoch with the best watched number.
        backends: operator -> back end that ran in the model's forward pass.
    """

    history: list[dict[str, float]] = field(default_factory=list)
    steps: int = 0
    clips: int = 0
    seconds: float = 0.0
    best_epoch: int = 0
    backends: dict[str, str] = field(default_factory=dict)

    @property
    def epochs(self) -> int:
        """Finished epochs."""
        return len(self.history)


def warmed_average(decay: float) -> Callable[[list[torch.Tensor], list[torch.Tensor], torch.Tensor | int], None]:
    """How averaged weights follow: by `decay`, and faster in the first steps, min(decay, (1 + n) / (10 + n)).

    Without the warm-up a run of few steps would keep mostly the weights it began with.
    """

    @torch.no_grad()
    def update(averaged: list[torch.Tensor], current: list[torch.Tensor], seen: torch.Tensor | int) -> None:
        n = int(seen)
        torch._foreach_lerp_(averaged, current, 1 - min(decay, (1 + n) / (10 + n)))

    return update


class Training(L.LightningModule):
    """Trains a model by a recipe; the learning rate, the augmentation and the model's own randomness are functions of
    seed, epoch and step alone.

    Args:
        model: takes and gives what the track does.
        recipe: optimiser, schedule.
        track: data, loss and validation of the model's task.
        seed: of the run.
        store: has `save(state)`, called at the end of every epoch.
    """

    def __init__(self, model: nn.Module, recipe: Recipe, track: Track, seed: int, store: Any) -> None:
        super().__init__()
        self.model, self.recipe, self.track, self.seed, self.store = model, recipe, track, seed, store
        self.average = AveragedModel(model, multi_avg_fn=warmed_average(recipe.ema)) if recipe.ema else None
        self.progress = Progress()
        self.best: dict[str, torch.Tensor] = {}
        self._saved: dict[str, Any] = {}

    @property
    def scored(self) -> nn.Module:
        """The model that is validated and kept: the averaged one where the recipe asks for an average."""
        return self.average.module if self.average is not None else self.model

    def figures(self) -> str:
        """Loss and watched number of the epoch at hand, in words."""
        watched = self.track.watched
        return f"loss {self._loss_sum / self._clips:.4g}, {watched.name} {self._sum / self._count:.1f} {watched.unit}"

    def weights(self) -> dict[str, torch.Tensor]:
        """A copy of the kept model's state_dict, on the CPU."""
        return {name: value.detach().cpu().clone() for name, value in self.scored.state_dict().items()}

    # --- what Lightning calls -------------------------------------------------------------------------------------

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """The recipe's optimiser over the trained parameters, with its earlier state when the run is resumed."""
        choice = {"lr": self.recipe.lr, "weight_decay": self.recipe.weight_decay}
        parameters = [p for p in self.model.parameters() if p.requires_grad]
        if self.recipe.optimizer == "adamw":
            optimizer: torch.optim.Optimizer = torch.optim.AdamW(parameters, **choice)
        else:
            optimizer = torch.optim.Adam(parameters, **choice, amsgrad=self.recipe.optimizer == "adam_amsgrad")
        if self._saved:
            optimizer.load_state_dict(self._saved["optimizer"])
        return optimizer

    def on_train_start(self) -> None:
        """Start the clock; give a mixed-precision scaler its state back."""
        self._since = time.monotonic()
        if self._saved:
            self.trainer.precision_plugin.load_state_dict(self._saved["scaler"])
            self._saved = {}

    def on_train_epoch_start(self) -> None:
        """Set what depends on the epoch: order of the clips, augmentation, the model's random numbers."""
        epoch = self.current_epoch
        self.trainer.train_dataloader.batch_sampler.set_epoch(epoch)
        torch.manual_seed(int(stream(MODEL, self.seed, epoch).integers(2**63)))
        self.track.set_epoch(epoch)
        self._loss_sum, self._clips = 0.0, 0

    def training_step(self, batch: Any, step: int) -> torch.Tensor:
        """The loss of one batch.

        Raises:
            Diverged: it is not finite.
        """
        inputs, target = self.track.training(batch, self.current_epoch, step)
        with ops.ran() as backends:
            pred = self.model(inputs)
        self.progress.backends.update(backends)
        loss = self.track.loss(pred, target)
        value = float(loss.detach())
        if not math.isfinite(value):
            raise Diverged(f"the loss became {value} in epoch {self.current_epoch + 1}, batch {step + 1}")
        self._loss_sum += value * len(inputs)
        self._clips += len(inputs)
        return loss

    def optimizer_step(self, *arguments: Any, **options: Any) -> None:
        """One step with the recipe's learning rate, then the averaged weights follow."""
        for group in self.optimizers().param_groups:
            group["lr"] = self.recipe.rate(self.current_epoch, self.progress.steps)
        super().optimizer_step(*arguments, **options)
        self.progress.steps += 1
        if self.average is not None:
            self.average.update_parameters(self.model)

    def on_validation_epoch_start(self) -> None:
        """Begin a new mean."""
        self._sum, self._count = 0.0, 0

    def validation_step(self, batch: Any, step: int) -> None:
        """Add the watched numbers of one batch."""
        inputs, target = self.track.validation(batch)
        numbers = self.track.judge(self.scored(inputs), target)
        self._sum += float(numbers.sum())
        self._count += numbers.numel()

    def on_train_epoch_end(self) -> None:
        """Close the epoch: history, best weights, resume state.

        Raises:
            Diverged: the watched number is not finite.
        """
        watched = self.track.watched
        row = {
            "epoch": self.current_epoch + 1,
            "lr": self.recipe.rate(self.current_epoch, self.progress.steps - 1),
            "loss": self._loss_sum / self._clips,
            watched.name: self._sum / self._count,
        }
        if not math.isfinite(row[watched.name]):
            raise Diverged(f"the validation error became {row[watched.name]} after epoch {row['epoch']}")
        before = [r[watched.name] for r in self.progress.history]
        self.progress.history.append(row)
        if watched.improves(row[watched.name], before):
            self.best, self.progress.best_epoch = self.weights(), row["epoch"]
        now = time.monotonic()
        self.progress.seconds += now - self._since
        self._since = now
        self.progress.clips += self._clips
        self.store.save(self._state(), self.progress.epochs)

    # --- resuming -------------------------------------------------------------------------------------------------

    def _state(self) -> dict[str, Any]:
        return {
            "model": self.model.state_dict(),
            "average": self.average.state_dict() if self.average is not None else None,
            "optimizer": self.optimizers(use_pl_optimizer=False).state_dict(),
            "scaler": self.trainer.precision_plugin.state_dict(),
            "best": self.best,
            "progress": vars(self.progress),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Take up a run from the state that an earlier process saved; the optimiser gets its part when it is made."""
        self.model.load_state_dict(state["model"])
        if self.average is not None:
            self.average.load_state_dict(state["average"])
        self.best, self.progress = state["best"], Progress(**state["progress"])
        self._saved = state
