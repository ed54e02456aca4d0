"""Training for pose in video: person crops of T frames, heat maps of the key frame, validation by PCK."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.utils.data import Dataset, default_collate

from posescale.checkpoints import load_checkpoint, read_weights
from posescale.data.video.augment import Augmentation
from posescale.data.video.clips import VideoClips
from posescale.data.video.prepared import VideoData
from posescale.errors import ConfigError
from posescale.metrics.video_protocols import video_protocol
from posescale.recipes import Crops
from posescale.train.sampler import EpochBatches
from posescale.train.track import Track, Watched
from posescale.train.video import heatmaps
from posescale.train.video.score import allowed, distances

if TYPE_CHECKING:
    from posescale.train.run import Run

Batch = dict[str, torch.Tensor]


class EpochEntries(EpochBatches):
    """Batches of (epoch, number): a clip's augmentation depends on both, in whichever process it is read."""

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        for numbers in super().__iter__():
            yield [(self.epoch, number) for number in numbers]


class VariedClips(Dataset):
    """Augmented clips by (epoch, number)."""

    def __init__(self, clips: VideoClips) -> None:
        self.clips = clips

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, entry: tuple[int, int]) -> dict[str, Any]:
        """One clip as it looks in that epoch."""
        epoch, number = entry
        self.clips.set_epoch(epoch)
        return self.clips[number]


class VideoTrack(Track):
    """Clips `(B, T, 3, H, W)`, heat maps `(B, K, H/4, W/4)` of the key frame; samples are annotated people."""

    watched = Watched("val_pck", "%", "higher")
    collate = staticmethod(default_collate)

    def __init__(self, run: "Run") -> None:
        recipe = run.recipe
        if recipe.stride or recipe.batch_frames or recipe.protocol or recipe.flip == "doubling":
            raise ConfigError(
                "recipe: stride, batch_frames, protocol and flip=doubling belong to lifting; a video clip is centred "
                "on each key frame, and mirrored by chance"
            )
        self.run, self.data = run, VideoData(run.data)
        self.protocol = video_protocol(self.data.index.protocol)
        settings = run.component.parameters | dict(run.overrides)
        self.size = settings["height"], settings["width"]
        self.arguments = {"frames": run.frames, "joints": len(self.data.skeleton.joints)}
        index = self.data.index
        self.facts = {
            "dataset": index.dataset, "protocol": index.protocol, "data_digest": index.digest, "resolution": self.size,
        }  # fmt: skip
        self.noted, self.rules = {"protocol": index.protocol}, self.protocol.model_dump()
        self.crops = recipe.crops or Crops()

    def begin(self, model: nn.Module, start: Path) -> None:
        """Load the encoder from a ViTPose's file, or the whole model where it has no encoder apart."""
        if hasattr(model, "start_from"):
            model.start_from(read_weights(start))
        else:
            load_checkpoint(model, start)

    def _clips(self, split: str, augmentation: Augmentation | None = None) -> VideoClips:
        return VideoClips(self.data, split, self.run.frames, *self.size, augmentation=augmentation)

    def training_clips(self, **place: Any) -> tuple[Dataset, EpochBatches]:
        """Varied crops of the annotated people."""
        recipe, seed = self.run.sized, self.run.seed
        varied = self.crops.model_dump(exclude={"sigma"}) | {"flip": recipe.flip, "seed": seed}
        clips = self._clips("train", Augmentation(**varied))
        steps = recipe.steps_per_epoch and recipe.steps_per_epoch * recipe.accumulate
        return VariedClips(clips), EpochEntries(len(clips), recipe.batch, seed, steps, **place)

    def validation_clips(self) -> Dataset | None:
        """The boxes as they are."""
        return self._clips("val") if self.data.videos("val") else None

    def training(self, batch: Batch) -> tuple[torch.Tensor, Any]:
        """Clips `(B, T, 3, H, W)`, with maps `(B, K, H/4, W/4)` and weights of their joints."""
        height, width = (side // heatmaps.STRIDE for side in self.size)
        maps = heatmaps.targets(batch["joints"], batch["annotated"], height, width, self.crops.sigma)
        return batch["clip"], maps

    def validation(self, batch: Batch) -> tuple[torch.Tensor, Any]:
        """Clips `(B, T, 3, H, W)`, and all that is known of their people."""
        return batch["clip"], batch

    def loss(self, pred: torch.Tensor, target: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
        """Mean squared error of the heat maps, a scalar; see `heatmaps.loss`."""
        return heatmaps.loss(pred, *target)

    def judge(self, pred: torch.Tensor, target: Batch) -> torch.Tensor:
        """`(annotated joints,)` percent: 100 where found within the protocol's distance, else 0."""
        joints, _ = heatmaps.decode(pred.float())
        hits = distances(joints, target) <= allowed(self.protocol, self.data.skeleton, target)[:, None]
        return 100.0 * hits[target["image_annotated"] > 0].double()
