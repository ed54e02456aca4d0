"""Training for 2D to 3D lifting: windows of poses, the lifting losses, validation by MPJPE."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader

from posescale.data.prepared import PreparedData
from posescale.data.windows import ClipWindows, collate, mirror
from posescale.errors import ConfigError
from posescale.recipes import Recipe
from posescale.train import losses
from posescale.train.sampler import EpochBatches, flips
from posescale.train.track import Track, Watched

MM = 1000.0  # prepared poses are in metres

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
    """Clips `(B, T, J, 3)` of screen coordinates with confidence, targets `(B, T, J, 3)` in metres, root-relative."""

    watched = Watched("val_mpjpe", "mm", "lower")

    def __init__(
        self, data_dir: Path | str, frames: int, seed: int, recipe: Recipe, settings: Mapping[str, Any]
    ) -> None:
        if recipe.crops is not None:
            raise ConfigError("recipe: crops belong to video models; lifting models see no image")
        self.data, self.frames, self.seed, self.recipe = PreparedData(data_dir), frames, seed, recipe
        index = self.data.index
        self.root, self.sides = index.parents.index(-1), (index.left, index.right)

    @property
    def facts(self) -> dict[str, Any]:
        """Dataset, protocol, digest."""
        index = self.data.index
        return {"dataset": index.dataset, "protocol": index.protocol, "data_digest": index.digest}

    @property
    def arguments(self) -> dict[str, Any]:
        """T."""
        return {"frames": self.frames}

    def loaders(self, epoch: int) -> tuple[DataLoader, DataLoader]:
        """Windows with the recipe's stride to train on, without overlap to validate on."""
        recipe, stride = self.recipe, self.recipe.stride or max(1, self.frames // 3)
        train = ClipWindows(self.data, "train", self.frames, stride)
        val = ClipWindows(self.data, "val", self.frames, self.frames)
        return (
            DataLoader(train, batch_sampler=EpochBatches.of(recipe, len(train), self.seed, epoch), collate_fn=collate),
            DataLoader(val, batch_size=recipe.batch, collate_fn=collate),
        )

    def training(self, batch: Pair, epoch: int, step: int) -> Pair:
        """Some clips mirrored, inputs and targets together."""
        chosen = flips(self.seed, epoch, step, len(batch[0]), self.recipe.flip)
        if not chosen.any():
            return batch
        where = torch.from_numpy(chosen).to(batch[0].device)[:, None, None, None]
        inputs, targets = (torch.where(where, mirror(poses, *self.sides), poses) for poses in batch)
        return inputs, targets

    def validation(self, batch: Pair) -> Pair:
        """As they are."""
        return batch

    def loss(self, pred: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """The recipe's weighted terms."""
        return losses.total(pred, answered(target, pred.shape[1]), self.recipe.losses)

    def judge(self, pred: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Mean distance of each frame's joints in mm, the predicted root at zero, without flip averaging."""
        pred = pred.clone()
        pred[:, :, self.root] = 0
        error = torch.linalg.vector_norm(pred.double() - answered(target, pred.shape[1]).double(), dim=-1)
        return MM * error.mean(-1).flatten()
