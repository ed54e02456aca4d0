"""One training run as a value: what its result depends on, and what follows from that."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

from posescale.cards import ROOT, Component, component, folder_digest
from posescale.errors import ConfigError
from posescale.models import create_model
from posescale.recipes import Recipe
from posescale.train.lifting import LiftingTrack
from posescale.train.team import Team
from posescale.train.track import Track
from posescale.train.video.track import VideoTrack

TRACKS: dict[str, type[Track]] = {"lifting": LiftingTrack, "video": VideoTrack}  # by the task on a model's card


@dataclass(frozen=True)
class Run:
    """One training run: everything its result depends on, the name of the study it belongs to, and loader processes."""

    model: str
    data: Path
    frames: int
    seed: int
    recipe: Recipe
    threads: int = 1
    device: str = "cpu"
    devices: int = 1
    overrides: Mapping[str, Any] = field(default_factory=dict)
    start: Path | None = None
    study: str = ""
    workers: int = 0
    label: str = ""

    @property
    def component(self) -> Component:
        """The card and folder of the model."""
        return component(self.model)

    @property
    def parameters(self) -> dict[str, Any]:
        """The network's constructor arguments."""
        return self.component.parameters | dict(self.overrides) | self.track.arguments

    @cached_property
    def sized(self) -> Recipe:
        """The recipe with batch and stride for this clip length."""
        return self.recipe.at(self.frames)

    @cached_property
    def track(self) -> Track:
        """Data, targets, loss and validation of the model's task."""
        return TRACKS[self.component.card.task](self)

    @cached_property
    def key(self) -> str:
        """Digest of model, data, code and settings: states are resumed only by a run with the same one."""
        code = [folder_digest(ROOT / "posescale" / part) for part in ("train", "ops", "layers", "data")]
        settings = [self.model, self.component.digest, self.parameters, self.seed, self.recipe.model_dump()]
        data = [self.track.facts["data_digest"], self.track.rules]
        place = [*data, self.device, self.threads, torch.__version__]
        start = sha256(self.start.read_bytes()).hexdigest() if self.start else None
        parts = [code, settings, place, self.devices, start]
        return sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:12]

    def job(self) -> dict[str, Any]:
        """The run as JSON can say it; `from_job` reads it."""
        start = str(self.start.resolve()) if self.start else None
        plain = {"data": str(self.data.resolve()), "recipe": self.recipe.model_dump(), "start": start}
        return {f.name: getattr(self, f.name) for f in fields(self)} | plain | {"overrides": dict(self.overrides)}

    @classmethod
    def from_job(cls, job: dict[str, Any]) -> "Run":
        """The run that another process described."""
        start = Path(job["start"]) if job["start"] else None
        return cls(**job | {"data": Path(job["data"]), "recipe": Recipe(**job["recipe"]), "start": start})

    def build(self) -> nn.Module:
        """The model before its first step; random weights depend on the seed and the constructor's arguments alone.

        Raises:
            ConfigError: part of the model is frozen and was given no weights.
            CheckpointError: the weights to start from cannot be read or do not fit.
        """
        torch.manual_seed(self.seed)
        model = create_model(self.model, **(dict(self.overrides) | self.track.arguments))
        if self.start:
            self.track.begin(model, self.start)
        elif not all(p.requires_grad for p in model.parameters()):
            raise ConfigError(
                f"{self.model}: part of it is frozen and would stay as it was drawn at random, so nothing useful could "
                "be learnt. Give its encoder's published weights to a recipe that starts from them (--start FILE --set "
                "start=pretrained), or let it train (--model frozen=nothing)"
            )
        return model.double() if self.recipe.precision == "64-true" else model

    def loaders(self, epoch: int, team: Team) -> tuple[DataLoader, DataLoader | None]:
        """This process's part of the training batches, from `epoch` on, and of the validation clips, where the data
        have any; the test split is not opened.

        Raises:
            ConfigError: there are fewer validation clips than processes.
        """
        train = self._loader(*self.track.training_clips(epoch=epoch, rank=team.rank, world=team.world))
        if (val := self.track.validation_clips()) is None:
            return train, None
        if len(val) < team.world:
            raise ConfigError(f"{len(val)} validation clips cannot be shared by {team.world} processes")
        own, batch = range(team.rank, len(val), team.world), self.sized.batch
        return train, self._loader(val, [list(own[start : start + batch]) for start in range(0, len(own), batch)])

    def _loader(self, clips: Dataset, batches: Iterable[list[int]]) -> DataLoader:
        # A generator of its own: loaders draw seeds for their workers, and the model's numbers are not for that.
        return DataLoader(
            clips, batch_sampler=batches, collate_fn=self.track.collate, generator=torch.Generator(),
            num_workers=self.workers, persistent_workers=self.workers > 0,
        )  # fmt: skip
