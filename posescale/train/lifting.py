"""Training for 2D to 3D lifting: windows of poses, the lifting losses, validation by MPJPE."""

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.utils.data import Dataset

from posescale.checkpoints import load_checkpoint
from posescale.data.prepared import PreparedData
from posescale.data.units import unit_of
from posescale.data.windows import ClipWindows, collate
from posescale.errors import ConfigError
from posescale.metrics.protocols import Protocol, protocol
from posescale.train import losses
from posescale.train.evaluate import default_protocol
from posescale.train.sampler import EpochBatches, MirroredWindows
from posescale.train.track import Track, Watched

if TYPE_CHECKING:
    from posescale.train.run import Run

Pair = tuple[torch.Tensor, torch.Tensor]


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


class LiftingTrack(Track):
    """Clips `(B, T, J, 3)` of screen coordinates with confidence; targets `(B, T, J, 3)`, root-relative labels."""

    collate = staticmethod(collate)

    def __init__(self, run: "Run") -> None:
        if run.recipe.crops is not None:
            raise ConfigError("recipe: crops belong to video models; lifting models see no image")
        self.run, self.data = run, PreparedData(run.data)
        self.arguments = {"frames": run.frames}

    @cached_property
    def protocol(self) -> Protocol:
        """The protocol whose labels the model is taught."""
        if self.run.recipe.protocol:
            return protocol(self.run.recipe.protocol)
        return default_protocol(self.run.component.card, self.data)

    @property
    def rules(self) -> dict[str, Any]:
        """The protocol."""
        return self.protocol.model_dump()

    @property
    def facts(self) -> dict[str, Any]:
        """Dataset, protocol, digest."""
        index = self.data.index
        return {"dataset": index.dataset, "protocol": self.protocol.id, "data_digest": index.digest}

    @property
    def noted(self) -> dict[str, Any]:
        """Protocol and labels."""
        return {"protocol": self.protocol.id, "labels": self.protocol.labels}

    @property
    def watched(self) -> Watched:
        """MPJPE in mm, or on the screen where the labels alone do not lead to millimetres."""
        return Watched("val_mpjpe", "screen" if self._scale is None else "mm", "lower")

    @cached_property
    def _scale(self) -> float | None:
        """Millimetres of one label unit; None where they differ between sequences."""
        unit = unit_of(self.data, self.protocol)
        if self.data.index.space == "image":  # the factors that lead to millimetres are the test set's
            return None
        widths = {self.protocol.label_width or s.width for s in self.data.sequences("val")}
        return None if not unit.plain and len(widths) > 1 else float(unit.mm(float(max(widths, default=1))))

    def check(self) -> None:
        """The protocol must be one of this dataset's.

        Raises:
            ConfigError: it belongs to another one.
        """
        rules, index = self.protocol, self.data.index
        if rules.dataset not in ("", index.dataset):
            raise ConfigError(
                f"the recipe's labels are those of {rules.id}, a protocol of {rules.dataset}; {self.data.folder} "
                f"holds {index.dataset}: choose another recipe, or its protocol (--set protocol=...)"
            )

    def begin(self, model: nn.Module, start: Path) -> None:
        """Load the whole model."""
        load_checkpoint(model, start)

    def training_clips(self, **place: Any) -> tuple[Dataset, EpochBatches]:
        """Windows by the recipe's rule, and their mirror images."""
        recipe, index = self.run.sized, self.data.index
        windows = ClipWindows(
            self.data, "train", self.run.frames, recipe.stride, rule=recipe.windows, rules=self.protocol
        )
        steps = recipe.steps_per_epoch and recipe.steps_per_epoch * recipe.accumulate
        batches = EpochBatches(len(windows), recipe.batch, self.run.seed, steps, flip=recipe.flip, **place)
        return MirroredWindows(windows, index.left, index.right), batches

    def validation_clips(self) -> Dataset | None:
        """Windows without overlap."""
        frames = self.run.frames
        return (
            ClipWindows(self.data, "val", frames, frames, rules=self.protocol) if self.data.sequences("val") else None
        )

    def training(self, batch: Pair) -> Pair:
        """As they are."""
        return batch

    def loss(self, pred: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """The recipe's weighted terms, a scalar; poses are `(B, T, J, 3)` in the protocol's label unit."""
        return losses.total(pred, answered(target, pred.shape[1]), self.run.recipe.losses)

    def judge(self, pred: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """`(B T,)` mean distance of each frame's joints, the predicted root at zero, without flip averaging.

        In mm where one scale leads all validation clips there, else in screen units (`watched` says which).
        """
        pred = pred.clone()
        pred[:, :, self.protocol.root] = 0
        error = torch.linalg.vector_norm(pred.double() - answered(target, pred.shape[1]).double(), dim=-1).mean(-1)
        return (self._scale or 1.0) * error.flatten()
