"""Training for pose in video: person crops of T frames, heat maps of the key frame, validation by PCK."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader, default_collate

from posescale.data.video.augment import Augmentation
from posescale.data.video.clips import VideoClips
from posescale.data.video.prepared import VideoData
from posescale.errors import ConfigError
from posescale.metrics.video_protocols import video_protocol
from posescale.recipes import Crops, Recipe
from posescale.train.sampler import EpochBatches
from posescale.train.track import Track, Watched
from posescale.train.video import heatmaps
from posescale.train.video.score import allowed, distances

Batch = dict[str, torch.Tensor]


class VideoTrack(Track):
    """Clips `(B, T, 3, H, W)`, heat maps `(B, K, H/4, W/4)` of the key frame; samples are annotated people."""

    watched = Watched("val_pck", "%", "higher")

    def __init__(
        self, data_dir: Path | str, frames: int, seed: int, recipe: Recipe, settings: Mapping[str, Any]
    ) -> None:
        if recipe.stride is not None:
            raise ConfigError("recipe: stride is for windows of lifting models; a clip is centred on each key frame")
        self.data, self.frames, self.seed, self.recipe = VideoData(data_dir), frames, seed, recipe
        self.protocol = video_protocol(self.data.index.protocol)
        self.size = settings["height"], settings["width"]
        crops = recipe.crops or Crops()
        self.sigma = crops.sigma
        varied = crops.model_dump(exclude={"sigma"})
        self._train = self._clips("train", Augmentation(**varied, flip=recipe.flip, seed=seed))

    def _clips(self, split: str, augmentation: Augmentation | None = None) -> VideoClips:
        return VideoClips(self.data, split, self.frames, *self.size, augmentation=augmentation)

    @property
    def facts(self) -> dict[str, Any]:
        """Dataset, protocol, digest, resolution."""
        index = self.data.index
        place = {"dataset": index.dataset, "protocol": index.protocol, "data_digest": index.digest}
        return place | {"resolution": self.size}

    @property
    def arguments(self) -> dict[str, Any]:
        """T and K."""
        return {"frames": self.frames, "joints": len(self.data.skeleton.joints)}

    def loaders(self, epoch: int) -> tuple[DataLoader, DataLoader]:
        """Varied crops to train on, the boxes as they are to validate on."""
        batches = EpochBatches.of(self.recipe, len(self._train), self.seed, epoch)
        return (
            DataLoader(self._train, batch_sampler=batches, collate_fn=default_collate),
            DataLoader(self._clips("val"), batch_size=self.recipe.batch, collate_fn=default_collate),
        )

    def set_epoch(self, epoch: int) -> None:
        """Other crops of the same people."""
        self._train.set_epoch(epoch)

    def training(self, batch: Batch, epoch: int, step: int) -> tuple[torch.Tensor, Any]:
        """Clips, with maps and weights of their joints."""
        height, width = (side // heatmaps.STRIDE for side in self.size)
        return batch["clip"], heatmaps.targets(batch["joints"], batch["annotated"], height, width, self.sigma)

    def validation(self, batch: Batch) -> tuple[torch.Tensor, Any]:
        """Clips, and all that is known of their people."""
        return batch["clip"], batch

    def loss(self, pred: torch.Tensor, target: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
        """Mean squared error of the heat maps."""
        return heatmaps.loss(pred, *target)

    def judge(self, pred: torch.Tensor, target: Batch) -> torch.Tensor:
        """100 for each annotated joint found within the data's threshold, 0 for the others."""
        joints, _ = heatmaps.decode(pred.float())
        hits = distances(joints, target) <= allowed(self.protocol, self.data.skeleton, target)[:, None]
        return 100.0 * hits[target["image_annotated"] > 0].double()
