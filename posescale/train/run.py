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
from posescale.checkpoints import load_checkpoint
from posescale.data.prepared import PreparedData
from posescale.data.units import unit_of
from posescale.data.windows import ClipWindows, collate
from posescale.errors import ConfigError
from posescale.metrics.protocols import Protocol, protocol
from posescale.models import create_model
from posescale.recipes import Recipe
from posescale.train.evaluate import default_protocol
from posescale.train.module import Ruler
from posescale.train.sampler import EpochBatches, MirroredWindows
from posescale.train.team import Team


@dataclass(frozen=True)
class Run:
    """One training run: everything its result depends on, the name of the study it belongs to, and loader processes."""

    model: str
    data: PreparedData
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

    @property
    def component(self) -> Component:
        """The card and folder of the model."""
        return component(self.model)

    @property
    def parameters(self) -> dict[str, Any]:
        """The network's constructor arguments."""
        return self.component.parameters | dict(self.overrides) | {"frames": self.frames}

    @cached_property
    def sized(self) -> Recipe:
        """The recipe with batch and stride for this clip length."""
        return self.recipe.at(self.frames)

    @cached_property
    def rules(self) -> Protocol:
        """The protocol whose labels the model is taught."""
        if self.recipe.protocol:
            return protocol(self.recipe.protocol)
        return default_protocol(self.component.card, self.data)

    @cached_property
    def key(self) -> str:
        """Digest of model, data, code and settings: states are resumed only by a run with the same one."""
        code = [folder_digest(ROOT / "posescale" / part) for part in ("train", "ops", "layers", "data")]
        settings = [self.model, self.component.digest, self.parameters, self.seed, self.recipe.model_dump()]
        place = [self.data.index.digest, self.rules.model_dump(), self.device, self.threads, torch.__version__]
        start = sha256(self.start.read_bytes()).hexdigest() if self.start else None
        parts = [code, settings, place, self.devices, start]
        return sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:12]

    def job(self) -> dict[str, Any]:
        """The run as JSON can say it; `from_job` reads it."""
        start = str(self.start.resolve()) if self.start else None
        plain = {"data": str(self.data.folder.resolve()), "recipe": self.recipe.model_dump(), "start": start}
        return {f.name: getattr(self, f.name) for f in fields(self)} | plain | {"overrides": dict(self.overrides)}

    @classmethod
    def from_job(cls, job: dict[str, Any]) -> "Run":
        """The run that another process described."""
        start = Path(job["start"]) if job["start"] else None
        return cls(**job | {"data": PreparedData(job["data"]), "recipe": Recipe(**job["recipe"]), "start": start})

    def build(self) -> nn.Module:
        """The model before its first step; random weights depend on the seed and the constructor's arguments alone."""
        torch.manual_seed(self.seed)
        model = create_model(self.model, **(dict(self.overrides) | {"frames": self.frames}))
        if self.start:
            load_checkpoint(model, self.start)
        return model.double() if self.recipe.precision == "64-true" else model

    def ruler(self) -> Ruler:
        """How validation measures."""
        unit, root = unit_of(self.data, self.rules), self.rules.root
        if self.data.index.space == "image":  # the factors that lead to millimetres are the test set's
            return Ruler(root, 1.0, "screen")
        widths = {self.rules.label_width or s.width for s in self.data.sequences("val")}
        if not unit.plain and len(widths) > 1:
            return Ruler(root, 1.0, "screen")
        return Ruler(root, float(unit.mm(float(max(widths, default=1)))))

    def loaders(self, epoch: int, team: Team) -> tuple[DataLoader, DataLoader | None]:
        """This process's part of the training batches, from `epoch` on, and of the validation windows, where the data
        have any; the test split is not opened.
        """
        recipe, index = self.sized, self.data.index
        train = ClipWindows(self.data, "train", self.frames, recipe.stride, rule=recipe.windows, rules=self.rules)
        steps = recipe.steps_per_epoch and recipe.steps_per_epoch * recipe.accumulate
        place = (epoch, recipe.flip, team.rank, team.world)
        batches = EpochBatches(len(train), recipe.batch, self.seed, steps, *place)
        both = MirroredWindows(train, index.left, index.right)
        if not self.data.sequences("val"):
            return self._loader(both, batches), None
        val = ClipWindows(self.data, "val", self.frames, self.frames, rules=self.rules)
        if len(val) < team.world:
            raise ConfigError(f"{len(val)} validation windows cannot be shared by {team.world} processes")
        own = range(team.rank, len(val), team.world)
        scored = [list(own[start : start + recipe.batch]) for start in range(0, len(own), recipe.batch)]
        return self._loader(both, batches), self._loader(val, scored)

    def _loader(self, windows: Dataset, batches: Iterable[list[int]]) -> DataLoader:
        # A generator of its own: loaders draw seeds for their workers, and the model's numbers are not for that.
        return DataLoader(
            windows, batch_sampler=batches, collate_fn=collate, generator=torch.Generator(),
            num_workers=self.workers, persistent_workers=self.workers > 0,
        )  # fmt: skip
