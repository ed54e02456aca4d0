"""One training run as a Lightning module: losses, optimiser, flips, averaged weights, state after each epoch."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import lightning as L
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim.swa_utils import AveragedModel

from posescale import ops
from posescale.errors import ConfigError, PosescaleError
from posescale.recipes import Recipe
from posescale.train import losses
from posescale.train.sampler import MODEL, EpochBatches, stream
from posescale.train.team import Team


class Diverged(PosescaleError):
    """The loss or the validation error is no longer a number."""


class Interrupted(PosescaleError):
    """A signal ended the training before its last epoch."""


@dataclass(frozen=True)
class Ruler:
    """How validation measures: the joint that is set to zero first, and the unit.

    Attributes:
        root: its index.
        scale: of one label unit.
        unit: mm, or `screen`, half the image's width, where the labels alone do not lead to millimetres.
    """

    root: int
    scale: float = 1000.0
    unit: str = "mm"


@dataclass
class Progress:
    """What a run has done so far; part of the state it resumes from.

    Attributes:
        history: one row per finished epoch: epoch (from 1), lr, loss, val_mpjpe (in the ruler's unit; None without
            validation data).
        steps: optimiser steps.
        clips: clips shown to the model.
        seconds: spent in training and validation, over all processes that worked on the run.
        best_epoch: the epoch with the smallest val_mpjpe; 0 while there is none.
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


def norm_momentum(recipe: Recipe, epoch: int) -> float:
    """Batch norms' momentum in an epoch, counted from 0: from the recipe's first value towards its last one, which the
    epoch after the last would have (VideoPose3D).
    """
    first, last = recipe.norm_momentum
    return first * (last / first) ** (epoch / recipe.epochs)


def set_norm_momentum(model: nn.Module, momentum: float) -> None:
    """Let all batch norms of a model follow their batches by this momentum."""
    for module in model.modules():
        if isinstance(module, _BatchNorm):
            module.momentum = momentum


class Training(L.LightningModule):
    """Trains a lifting model by a recipe; the learning rate and the model's own randomness are functions of seed,
    epoch and process alone.

    Args:
        model: maps (B, T, J, 3) to (B, T, J, 3) or (B, 1, J, 3).
        recipe: losses, optimiser, schedule.
        ruler: of the validation error.
        seed: of the run.
        store: has `save(state, epoch)`, called at the end of every epoch by the first process.
        team: the processes that train together.
    """

    def __init__(
        self, model: nn.Module, recipe: Recipe, ruler: Ruler, seed: int, store: Any, team: Team | None = None
    ) -> None:
        super().__init__()
        self.model, self.recipe, self.ruler, self.seed, self.store = model, recipe, ruler, seed, store
        self.team = team or Team()
        self.average = AveragedModel(model, multi_avg_fn=warmed_average(recipe.ema)) if recipe.ema else None
        if self.average is not None:
            self.average.requires_grad_(False)
        self.progress = Progress()
        self.best: dict[str, torch.Tensor] = {}
        self._saved: dict[str, Any] = {}

    @property
    def scored(self) -> nn.Module:
        """The model that is validated and kept: the averaged one where the recipe asks for an average."""
        return self.average.module if self.average is not None else self.model

    def figures(self) -> str:
        """Loss and validation error of the epoch at hand, in words."""
        if not self._frames:
            return f"loss {self._loss_sum / self._clips:.4g}"
        error = self.ruler.scale * self._error_sum / self._frames
        return f"loss {self._loss_sum / self._clips:.4g}, validation {error:.4g} {self.ruler.unit}"

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

    @property
    def batches(self) -> EpochBatches:
        """The sampler that training draws from."""
        return self.trainer.train_dataloader.batch_sampler

    def on_train_epoch_start(self) -> None:
        """Set what depends on the epoch: order of the windows, the model's random numbers, learning rate, momentum."""
        epoch, recipe = self.current_epoch, self.recipe
        self.batches.set_epoch(epoch)
        place = (epoch, self.team.rank) if self.team.rank else (epoch,)
        torch.manual_seed(int(stream(MODEL, self.seed, *place).integers(2**63)))
        for group in self.optimizers().param_groups:
            group["lr"] = recipe.lr * recipe.lr_decay**epoch
        if recipe.norm_momentum:
            set_norm_momentum(self.model, norm_momentum(recipe, epoch))
        self._loss_sum, self._clips = 0.0, 0
        self._error_sum, self._frames = 0.0, 0

    def training_step(self, batch: tuple[torch.Tensor, torch.Tensor], step: int) -> torch.Tensor:
        """The loss of one batch, weighted so that the gradient is that of the mean over the step's clips.

        Raises:
            Diverged: it is not finite, in any process.
        """
        inputs, targets = batch
        with ops.ran() as backends:
            pred = self.model(inputs)
        self.progress.backends.update(backends)
        loss = losses.total(pred, answered(targets, pred.shape[1]), self.recipe.losses)
        clips = self.batches.clips(step)
        mean = self.team.mean(loss.detach() * self.batches.share(step))
        value = float(mean)
        if not math.isfinite(value):
            raise Diverged(f"the loss became {value} in epoch {self.current_epoch + 1}, batch {step + 1}")
        self._loss_sum += value * clips
        self._clips += clips
        if self.recipe.objective == "half_squared_loss":
            loss = mean * loss
        return self.batches.share(step, self.recipe.accumulate) * loss

    def optimizer_step(self, *arguments: Any, **options: Any) -> None:
        """One step, then the averaged weights follow."""
        super().optimizer_step(*arguments, **options)
        self.progress.steps += 1
        if self.average is not None:
            self.average.update_parameters(self.model)

    def on_validation_start(self) -> None:
        """Give all processes the first one's buffers: batch norms count by process, and the first's are kept."""
        self.team.share_buffers(self)

    def validation_step(self, batch: tuple[torch.Tensor, torch.Tensor], step: int) -> None:
        """Add the errors of one batch: distance to the target with the root at zero, no flip averaging."""
        inputs, targets = batch
        pred = self.scored(inputs).clone()
        pred[:, :, self.ruler.root] = 0
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
            "val_mpjpe": self._validated(),
        }
        best = min((r["val_mpjpe"] for r in self.progress.history if self.best), default=math.inf)
        self.progress.history.append(row)
        if row["val_mpjpe"] is not None and row["val_mpjpe"] < best:
            self.best, self.progress.best_epoch = self.weights(), row["epoch"]
        now = time.monotonic()
        self.progress.seconds += now - self._since
        self._since = now
        self.progress.clips += self._clips
        if self.team.rank == 0:
            self.store.save(self._state(), self.progress.epochs)

    def _validated(self) -> float | None:
        """The epoch's validation error in the ruler's unit; None without validation data.

        Raises:
            Diverged: it is not finite.
        """
        error, frames = self.team.sum(self._error_sum, self._frames)
        if not frames:
            return None
        if not math.isfinite(error):
            raise Diverged(f"the validation error became {error} after epoch {self.current_epoch + 1}")
        return self.ruler.scale * error / frames

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
