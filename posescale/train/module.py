"""One training run as a Lightning module: losses, optimiser, flips, averaged weights, state after each epoch."""

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
from posescale.data.windows import mirror
from posescale.errors import ConfigError, PosescaleError
from posescale.recipes import Recipe
from posescale.train import losses
from posescale.train.sampler import MODEL, flips, stream

MM = 1000.0  # prepared poses are in metres


class Diverged(PosescaleError):
    """The loss or the validation error is no longer a number."""


class Interrupted(PosescaleError):
    """A signal ended the training before its last epoch."""


@dataclass(frozen=True)
class Skeleton:
    """What training must know of the joints: the root's index and the pairs that a mirror exchanges."""

    root: int
    left: list[int]
    right: list[int]


@dataclass
class Progress:
    """What a run has done so far; part of the state it resumes from.

    Attributes:
        history: one row per finished epoch: epoch (from 1), lr, loss, val_mpjpe (mm).
        steps: optimiser steps.
        clips: clips shown to the model.
        seconds: spent in training and validation, over all processes that worked on the run.
        best_epoch: the epoch with the smallest val_mpjpe.
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


def answered(targets: torch.Tensor, frames_out: int) -> torch.Tensor:
    """The target frames (B, T, J, 3) that a model answers for: all T, or the centre frame (T - 1) // 2 for one.

    Raises:
        ConfigError: the model gives another number of frames.
    """
    frames = targets.shape[1]
    if frames_out == frames:
        return targets
    if frames_out == 1:
        centre = (frames - 1) // 2
        return targets[:, centre : centre + 1]
    raise ConfigError(f"the model answers with {frames_out} frames to clips of {frames}; expected all of them or one")


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
    """Trains a lifting model by a recipe; the learning rate, the flips and the model's own randomness are functions
    of seed, epoch and step alone.

    Args:
        model: maps (B, T, J, 3) to (B, T, J, 3) or (B, 1, J, 3).
        recipe: losses, optimiser, schedule.
        skeleton: of the data.
        seed: of the run.
        store: has `save(state)`, called at the end of every epoch.
    """

    def __init__(self, model: nn.Module, recipe: Recipe, skeleton: Skeleton, seed: int, store: Any) -> None:
        super().__init__()
        self.model, self.recipe, self.skeleton, self.seed, self.store = model, recipe, skeleton, seed, store
        self.average = AveragedModel(model, multi_avg_fn=warmed_average(recipe.ema)) if recipe.ema else None
        self.progress = Progress()
        self.best: dict[str, torch.Tensor] = {}
        self._saved: dict[str, Any] = {}

    @property
    def scored(self) -> nn.Module:
        """The model that is validated and kept: the averaged one where the recipe asks for an average."""
        return self.average.module if self.average is not None else self.model

    def figures(self) -> str:
        """Loss and validation error of the epoch at hand, in words."""
        return f"loss {self._loss_sum / self._clips:.4g}, validation {MM * self._error_sum / self._frames:.1f} mm"

    def weights(self) -> dict[str, torch.Tensor]:
        """A copy of the kept model's state_dict, on the CPU."""
        return {name: value.detach().cpu().clone() for name, value in self.scored.state_dict().items()}

    # --- what Lightning calls -------------------------------------------------------------------------------------

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """The recipe's optimiser over all parameters, with its earlier state when the run is resumed."""
        choice = {"lr": self.recipe.lr, "weight_decay": self.recipe.weight_decay}
        parameters = self.model.parameters()
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
        """Set what depends on the epoch: order of the windows, the model's random numbers, learning rate."""
        epoch = self.current_epoch
        self.trainer.train_dataloader.batch_sampler.set_epoch(epoch)
        torch.manual_seed(int(stream(MODEL, self.seed, epoch).integers(2**63)))
        for group in self.optimizers().param_groups:
            group["lr"] = self.recipe.lr * self.recipe.lr_decay**epoch
        self._loss_sum, self._clips = 0.0, 0

    def training_step(self, batch: tuple[torch.Tensor, torch.Tensor], step: int) -> torch.Tensor:
        """The loss of one batch.

        Raises:
            Diverged: it is not finite.
        """
        inputs, targets = self._flipped(batch, step)
        with ops.ran() as backends:
            pred = self.model(inputs)
        self.progress.backends.update(backends)
        loss = losses.total(pred, answered(targets, pred.shape[1]), self.recipe.losses)
        value = float(loss.detach())
        if not math.isfinite(value):
            raise Diverged(f"the loss became {value} in epoch {self.current_epoch + 1}, batch {step + 1}")
        self._loss_sum += value * len(inputs)
        self._clips += len(inputs)
        return loss

    def optimizer_step(self, *arguments: Any, **options: Any) -> None:
        """One step, then the averaged weights follow."""
        super().optimizer_step(*arguments, **options)
        self.progress.steps += 1
        if self.average is not None:
            self.average.update_parameters(self.model)

    def on_validation_epoch_start(self) -> None:
        """Begin a new mean."""
        self._error_sum, self._frames = 0.0, 0

    def validation_step(self, batch: tuple[torch.Tensor, torch.Tensor], step: int) -> None:
        """Add the errors of one batch: distance to the target with the root at zero, no flip averaging."""
        inputs, targets = batch
        pred = self.scored(inputs).clone()
        pred[:, :, self.skeleton.root] = 0
        error = torch.linalg.vector_norm(pred.double() - answered(targets, pred.shape[1]).double(), dim=-1).mean(-1)
        self._error_sum += float(error.sum())
        self._frames += error.numel()

    def on_train_epoch_end(self) -> None:
        """Close the epoch: history, best weights, resume state.

        Raises:
            Diverged: the validation error is not finite.
        """
        row = {
            "epoch": self.current_epoch + 1,
            "lr": self.recipe.lr * self.recipe.lr_decay**self.current_epoch,
            "loss": self._loss_sum / self._clips,
            "val_mpjpe": MM * self._error_sum / self._frames,
        }
        if not math.isfinite(row["val_mpjpe"]):
            raise Diverged(f"the validation error became {row['val_mpjpe']} after epoch {row['epoch']}")
        best = min((r["val_mpjpe"] for r in self.progress.history), default=math.inf)
        self.progress.history.append(row)
        if row["val_mpjpe"] < best:
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

    def _flipped(self, batch: tuple[torch.Tensor, torch.Tensor], step: int) -> tuple[torch.Tensor, torch.Tensor]:
        chosen = flips(self.seed, self.current_epoch, step, len(batch[0]), self.recipe.flip)
        if not chosen.any():
            return batch
        where = torch.from_numpy(chosen).to(batch[0].device)[:, None, None, None]
        left, right = self.skeleton.left, self.skeleton.right
        inputs, targets = (torch.where(where, mirror(poses, left, right), poses) for poses in batch)
        return inputs, targets
