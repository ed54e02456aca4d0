"""One training run as a Lightning module: loss, optimiser, validation, averaged weights, state after each epoch."""

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
from posescale.errors import PosescaleError
from posescale.recipes import Recipe
from posescale.train.sampler import MODEL, EpochBatches, stream
from posescale.train.team import Team
from posescale.train.track import Track


class Diverged(PosescaleError):
    """The loss or the validation error is no longer a number."""


class Interrupted(PosescaleError):
    """A signal ended the training before its last epoch."""


@dataclass
class Progress:
    """What a run has done so far; part of the state it resumes from.

    Attributes:
        history: one row per finished epoch: epoch (from 1), lr of its last step, loss, and the watched number (None
            without validation data).
        steps: optimiser steps.
        clips: clips shown to the model.
        seconds: spent in training and validation, over all processes that worked on the run.
        best_epoch: the epoch with the best watched number; 0 while there is none.
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


def make_optimizer(model: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """The recipe's optimiser over the parameters that are trained."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    # One kernel for all tensors: 3 ms less of a tiny model's 70. Elsewhere a loss scaler may have to clip in between.
    fused = recipe.precision in ("32-true", "64-true") and all(p.device.type == "cpu" for p in parameters)
    choice = {"lr": recipe.lr, "weight_decay": recipe.weight_decay, "fused": fused}
    if recipe.optimizer == "adamw":
        return torch.optim.AdamW(parameters, **choice)
    return torch.optim.Adam(parameters, **choice, amsgrad=recipe.optimizer == "adam_amsgrad")


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
    """Trains a model by a recipe; the learning rate and the model's own randomness are functions of seed,
    epoch and process alone.

    Args:
        model: takes and gives what the track does.
        recipe: optimiser, schedule.
        track: targets, loss and validation of the model's task.
        seed: of the run.
        store: has `save(state, epoch)`, called at the end of every epoch by the first process.
        team: the processes that train together.
    """

    def __init__(
        self, model: nn.Module, recipe: Recipe, track: Track, seed: int, store: Any, team: Team | None = None
    ) -> None:
        super().__init__()
        self.model, self.recipe, self.track, self.seed, self.store = model, recipe, track, seed, store
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
        """Loss and watched number of the epoch at hand, in words."""
        loss, watched = f"loss {self._loss_sum / self._clips:.4g}", self.track.watched
        return f"{loss}, {watched.name} {self._sum / self._count:.4g} {watched.unit}" if self._count else loss

    def weights(self) -> dict[str, torch.Tensor]:
        """A copy of the kept model's state_dict, on the CPU."""
        return {name: value.detach().cpu().clone() for name, value in self.scored.state_dict().items()}

    # --- what Lightning calls -------------------------------------------------------------------------------------

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """The recipe's optimiser over all parameters, with its earlier state when the run is resumed."""
        optimizer = make_optimizer(self.model, self.recipe)
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
        """Set what depends on the epoch: order of the clips, the model's random numbers, momentum."""
        epoch, recipe = self.current_epoch, self.recipe
        self.batches.set_epoch(epoch)
        place = (epoch, self.team.rank) if self.team.rank else (epoch,)
        torch.manual_seed(int(stream(MODEL, self.seed, *place).integers(2**63)))
        if recipe.norm_momentum:
            set_norm_momentum(self.model, norm_momentum(recipe, epoch))
        self._loss_sum, self._clips = 0.0, 0
        self._sum, self._count = 0.0, 0

    def training_step(self, batch: Any, step: int) -> torch.Tensor:
        """The loss of one batch, weighted so that the gradient is that of the mean over the step's clips.

        Raises:
            Diverged: it is not finite, in any process.
        """
        inputs, target = self.track.training(batch)
        with ops.ran() as backends:
            pred = self.model(inputs)
        self.progress.backends.update(backends)
        loss = self.track.loss(pred, target)
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
        """One step with the recipe's learning rate, then the averaged weights follow."""
        for group in self.optimizers().param_groups:
            group["lr"] = self.recipe.rate(self.current_epoch, self.progress.steps)
        super().optimizer_step(*arguments, **options)
        self.progress.steps += 1
        if self.average is not None:
            self.average.update_parameters(self.model)

    def on_validation_start(self) -> None:
        """Give all processes the first one's buffers: batch norms count by process, and the first's are kept."""
        self.team.share_buffers(self)

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
            watched.name: self._validated(),
        }
        before = [r[watched.name] for r in self.progress.history if self.best]
        self.progress.history.append(row)
        if row[watched.name] is not None and watched.improves(row[watched.name], before):
            self.best, self.progress.best_epoch = self.weights(), row["epoch"]
        now = time.monotonic()
        self.progress.seconds += now - self._since
        self._since = now
        self.progress.clips += self._clips
        if self.team.rank == 0:
            self.store.save(self._state(), self.progress.epochs)

    def _validated(self) -> float | None:
        """The epoch's watched number; None without validation data.

        Raises:
            Diverged: it is not finite.
        """
        total, count = self.team.sum(self._sum, self._count)
        if not count:
            return None
        if not math.isfinite(total):
            raise Diverged(f"the validation error became {total} after epoch {self.current_epoch + 1}")
        return total / count

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
