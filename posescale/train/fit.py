"""Training a model: one call, one folder of results, the same result after a kill and restart."""

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

from posescale.cards import ROOT, Component, component, folder_digest
from posescale.checkpoints import read_weights
from posescale.errors import ConfigError
from posescale.models import create_model
from posescale.recipes import Recipe
from posescale.records import Record
from posescale.train import results
from posescale.train.lifting import LiftingTrack
from posescale.train.module import Diverged, Interrupted, Training
from posescale.train.progress import progress_callbacks
from posescale.train.resume import ResumeStore, exclusive
from posescale.train.track import Track
from posescale.train.video.track import VideoTrack

log = logging.getLogger(__name__)
TRACKS: dict[str, type[Track]] = {"lifting": LiftingTrack, "video": VideoTrack}  # by the task on a model's card


@dataclass(frozen=True)
class Run:
    """One training run: everything its result depends on, and the name of the study it belongs to."""

    model: str
    data_dir: Path
    frames: int
    seed: int
    recipe: Recipe
    threads: int = 1
    device: str = "cpu"
    overrides: Mapping[str, Any] = field(default_factory=dict)
    study: str = ""
    start_from: Path | None = None

    @property
    def component(self) -> Component:
        """The card and folder of the model."""
        return component(self.model)

    @cached_property
    def track(self) -> Track:
        """Data, loss and validation of the model's task."""
        settings = self.component.parameters | dict(self.overrides)
        return TRACKS[self.component.card.task](self.data_dir, self.frames, self.seed, self.recipe, settings)

    @property
    def parameters(self) -> dict[str, Any]:
        """The network's constructor arguments."""
        return self.component.parameters | dict(self.overrides) | self.track.arguments

    @cached_property
    def beginning(self) -> dict[str, torch.Tensor]:
        """Weights of `start_from`; empty without it."""
        return read_weights(self.start_from) if self.start_from else {}

    @cached_property
    def key(self) -> str:
        """Digest of model, data, code and settings: states are resumed only by a run with the same one."""
        code = [folder_digest(ROOT / "posescale" / part) for part in ("train", "ops", "layers", "data")]
        settings = [self.model, self.component.digest, self.parameters, self.seed, self.recipe.model_dump()]
        settings.append(results.weights_digest(self.beginning))
        place = [self.track.facts["data_digest"], self.device, self.threads, torch.__version__]
        return sha256(json.dumps([code, settings, place], sort_keys=True).encode()).hexdigest()[:12]

    def build(self) -> nn.Module:
        """The untrained model; its weights depend on seed, constructor's arguments and `start_from` alone.

        Raises:
            ConfigError: part of the model is frozen, and nothing was given to start from; or it cannot start from
                other weights.
            CheckpointError: the weights to start from do not fit.
        """
        torch.manual_seed(self.seed)
        model = create_model(self.model, **(dict(self.overrides) | self.track.arguments))
        if not self.start_from and not all(p.requires_grad for p in model.parameters()):
            raise ConfigError(
                f"{self.model}: part of it is frozen and would stay as it was drawn at random, so nothing useful could "
                "be learnt; give the encoder's published weights (--start-from FILE), or let it train (--model "
                "frozen=nothing)"
            )
        if self.start_from and not hasattr(model, "start_from"):
            raise ConfigError(f"{self.model} has no encoder to start from other weights; leave --start-from out")
        if self.start_from:
            model.start_from(self.beginning)
        return model.double() if self.recipe.precision == "64-true" else model


def resolve_recipe(model: str, recipe: Recipe | str) -> Recipe:
    """A recipe, or the one of that name on the model's card.

    Raises:
        ConfigError: the card has no such recipe, or the model is none that is trained.
    """
    if (task := component(model).card.task) not in TRACKS:
        raise ConfigError(f"{model} is a {task} component; there is nothing in it to train")
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
    start_from: Path | str | None = None,
) -> Record:
    """Train a model and write weights-last.pt, weights-val-best.pt, history.csv and record.jsonl into `out`.

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
        start_from: file of a ViTPose whose weights the encoder of a video model begins with.

    Returns:
        the record, of kind `training`.

    Raises:
        ConfigError: an argument is out of range, the recipe does not exist or does not suit the data.
        DataError: the data cannot be read, or has no windows of `frames` frames to train or validate on.
        CheckpointError: the weights to start from cannot be read or do not fit.
        UnavailableError: no such model or device, or another process trains into `out`.
        Interrupted: a signal ended the training early; nothing but the resume state was written.
    """
    out = Path(out)
    run = Run(
        model_name, Path(data_dir), frames, seed, resolve_recipe(model_name, recipe), threads, device, overrides or {},
        study, Path(start_from) if start_from else None,
    )  # fmt: skip
    _check(run)
    with exclusive(out), _computing(run):
        results.clear(out)
        store = ResumeStore(out / "resume" / run.key)
        state = store.load()
        training = Training(run.build(), run.recipe, run.track, run.seed, store)
        if state:
            training.restore(state)
        status, reason = _train(run, training)
        return results.write(out, training, run, status, reason)


def _check(run: Run) -> None:
    for name, least in (("frames", 1), ("seed", 0), ("threads", 1)):
        if getattr(run, name) < least:
            raise ConfigError(f"{name} must be {least} or more, found {getattr(run, name)}")
    if twice := sorted(run.overrides.keys() & run.track.arguments):
        raise ConfigError(f"{', '.join(twice)} given twice: leave it out of the model's own settings")
    results.check_device(run.device)


def _train(run: Run, training: Training) -> tuple[str, str]:
    """Run the epochs that are left; how it ended: status and reason."""
    done = training.progress.epochs
    train, val = run.track.loaders(done)
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
