"""Training a lifting model: one call, one folder of results, the same result after a kill and restart."""

import json
import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any

import lightning as L
import torch
from torch import nn
from torch.utils.data import DataLoader

from posescale.cards import ROOT, Component, component, folder_digest
from posescale.data.prepared import PreparedData
from posescale.data.windows import ClipWindows, collate
from posescale.errors import ConfigError
from posescale.models import create_model
from posescale.recipes import Recipe
from posescale.records import Record
from posescale.train import results
from posescale.train.module import Diverged, Interrupted, Skeleton, Training
from posescale.train.progress import progress_callbacks
from posescale.train.resume import ResumeStore, exclusive
from posescale.train.sampler import EpochBatches

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Run:
    """One training run: everything its result depends on, and the name of the study it belongs to."""

    model: str
    data: PreparedData
    frames: int
    seed: int
    recipe: Recipe
    threads: int = 1
    device: str = "cpu"
    overrides: Mapping[str, Any] = field(default_factory=dict)
    study: str = ""

    @property
    def component(self) -> Component:
        """The card and folder of the model."""
        return component(self.model)

    @property
    def parameters(self) -> dict[str, Any]:
        """The network's constructor arguments."""
        return self.component.parameters | dict(self.overrides) | {"frames": self.frames}

    @cached_property
    def key(self) -> str:
        """Digest of model, data, code and settings: states are resumed only by a run with the same one."""
        code = [folder_digest(ROOT / "posescale" / part) for part in ("train", "ops", "layers", "data")]
        settings = [self.model, self.component.digest, self.parameters, self.seed, self.recipe.model_dump()]
        place = [self.data.index.digest, self.device, self.threads, torch.__version__]
        return sha256(json.dumps([code, settings, place], sort_keys=True).encode()).hexdigest()[:12]

    def build(self) -> nn.Module:
        """The untrained model; its weights depend on the seed and the constructor's arguments alone."""
        torch.manual_seed(self.seed)
        model = create_model(self.model, **(dict(self.overrides) | {"frames": self.frames}))
        return model.double() if self.recipe.precision == "64-true" else model

    def loaders(self, epoch: int) -> tuple[DataLoader, DataLoader]:
        """Batches of training windows, from `epoch` on, and of validation windows; the test split is not opened."""
        recipe, stride = self.recipe, self.recipe.stride or max(1, self.frames // 3)
        train = ClipWindows(self.data, "train", self.frames, stride)
        val = ClipWindows(self.data, "val", self.frames, self.frames)
        steps = recipe.steps_per_epoch and recipe.steps_per_epoch * recipe.accumulate
        batches = EpochBatches(len(train), recipe.batch, self.seed, steps, epoch)
        return (
            DataLoader(train, batch_sampler=batches, collate_fn=collate),
            DataLoader(val, batch_size=recipe.batch, collate_fn=collate),
        )


def resolve_recipe(model: str, recipe: Recipe | str) -> Recipe:
    """A recipe, or the one of that name on the model's card.

    Raises:
        ConfigError: the card has no such recipe.
    """
    if isinstance(recipe, Recipe):
        return recipe
    known = component(model).card.recipes
    if recipe not in known:
        raise ConfigError(f"{model} has no recipe {recipe!r}; its card has {', '.join(known) or 'none'}")
    return known[recipe]


def fit(
    model_name: str,
    data_dir: Path | str,
    frames: int,
    seed: int,
    recipe: Recipe | str,
    out: Path | str,
    threads: int = 1,
    device: str = "cpu",
    overrides: Mapping[str, Any] | None = None,
    study: str = "",
) -> Record:
    """Train a lifting model and write weights-last.pt, weights-val-best.pt, history.csv and record.jsonl into `out`.

    The state is kept in out/resume at the end of every epoch and taken up by the next call with the same arguments;
    on the CPU the result is the same bit for bit as that of an uninterrupted run. A run that diverges writes its
    history and a record with status `crashed`, and no weights.

    Args:
        model_name: variant id.
        data_dir: prepared data; its train and val splits are read, never test.
        frames: T of the clips.
        seed: 0 or more; of initial weights, batch order, flips and the model's own randomness.
        recipe: a recipe, or the name of one on the model's card.
        out: folder of the results; earlier results in it are replaced.
        threads: torch's.
        device: cpu or cuda.
        overrides: further constructor arguments of the model.
        study: noted in the record.

    Returns:
        the record, of kind `training`.

    Raises:
        ConfigError: an argument is out of range, the recipe does not exist or does not suit the data.
        DataError: the data cannot be read, or has no windows of `frames` frames to train or validate on.
        UnavailableError: no such model or device, or another process trains into `out`.
        Interrupted: a signal ended the training early; nothing but the resume state was written.
    """
    out = Path(out)
    if (task := component(model_name).card.task) != "lifting":
        raise ConfigError(f"{model_name} is a {task} component; only lifting models are trained here")
    recipe = resolve_recipe(model_name, recipe)
    run = Run(model_name, PreparedData(data_dir), frames, seed, recipe, threads, device, overrides or {}, study)
    _check(run)
    with exclusive(out), _computing(run):
        results.clear(out)
        store = ResumeStore(out / "resume" / run.key)
        state = store.load()
        index = run.data.index
        skeleton = Skeleton(index.parents.index(-1), index.left, index.right)
        training = Training(run.build(), run.recipe, skeleton, run.seed, store)
        if state:
            training.restore(state)
        status, reason = _train(run, training)
        return results.write(out, training, run, status, reason)


def _check(run: Run) -> None:
    for name, least in (("frames", 1), ("seed", 0), ("threads", 1)):
        if getattr(run, name) < least:
            raise ConfigError(f"{name} must be {least} or more, found {getattr(run, name)}")
    if "frames" in run.overrides:
        raise ConfigError("frames is given twice: leave it out of the model's own settings")
    results.check_device(run.device)


def _train(run: Run, training: Training) -> tuple[str, str]:
    """Run the epochs that are left; how it ended: status and reason."""
    done = training.progress.epochs
    train, val = run.loaders(done)
    trainer = L.Trainer(
        accelerator=run.device.partition(":")[0], devices=1, precision=run.recipe.precision,
        max_epochs=run.recipe.epochs, accumulate_grad_batches=run.recipe.accumulate,
        gradient_clip_val=run.recipe.gradient_clip, num_sanity_val_steps=0, logger=False, enable_checkpointing=False,
        enable_model_summary=False, enable_progress_bar=False, use_distributed_sampler=False,
        callbacks=progress_callbacks(),
    )  # fmt: skip
    # Lightning's own resume skips hooks in the first epoch; a loop that simply starts at epoch `done` does not.
    trainer.fit_loop.epoch_progress.current.processed = trainer.fit_loop.epoch_progress.current.completed = done
    try:
        if done < run.recipe.epochs:
            trainer.fit(training, train, val)
    except Diverged as error:
        return "crashed", str(error)
    except torch.OutOfMemoryError as error:
        return "oom", str(error).splitlines()[0]
    if training.progress.epochs < run.recipe.epochs:
        raise Interrupted(f"stopped after epoch {training.progress.epochs}; the same command goes on from there")
    return "ok", ""


@contextmanager
def _computing(run: Run) -> Iterator[None]:
    """Threads, determinism and random state for the time of a run; Lightning's chatter is silenced."""
    threads, deterministic = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    chatter = logging.getLogger("lightning.pytorch")
    level = chatter.level
    cuda = range(torch.cuda.device_count()) if run.device.startswith("cuda") else []
    with torch.random.fork_rng(devices=cuda), warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="lightning")
        chatter.setLevel(logging.WARNING)
        torch.set_num_threads(run.threads)
        torch.use_deterministic_algorithms(True, warn_only=run.device != "cpu")
        try:
            yield
        finally:
            torch.use_deterministic_algorithms(deterministic)
            torch.set_num_threads(threads)
            chatter.setLevel(level)
