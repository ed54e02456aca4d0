"""Training a model: one call, one folder of results, the same result after a kill and restart."""

import logging
import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lightning as L
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from posescale.cards import component
from posescale.errors import ConfigError
from posescale.recipes import Recipe
from posescale.records import Record
from posescale.train import results
from posescale.train.module import Diverged, Interrupted, Training
from posescale.train.progress import progress_callbacks
from posescale.train.resume import ResumeStore, exclusive
from posescale.train.run import TRACKS, Run
from posescale.train.team import READY, Team, assembled
from posescale.train.threads import torch_threads


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
    devices: int = 1,
    start: Path | str | None = None,
    workers: int = 0,
    label: str = "",
) -> Record:
    """Train a model and write weights-last.pt, weights-val-best.pt, history.csv and record.jsonl into `out`;
    without validation data there is no best epoch, and no weights-val-best.pt.

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
        study, label: noted in the record.
        devices: how many processes train together, each on a device of its own; batches are shared among them.
        start: file of the weights to start from, where the recipe starts from pretrained ones; a ViTPose's for the
            encoder of a video model.
        workers: processes that read ahead; 0 reads in between. The result is the same.

    Returns:
        the record, of kind `training`.

    Raises:
        ConfigError: an argument is out of range, the recipe does not exist or does not suit the data.
        DataError: the data cannot be read, or has no windows of `frames` frames to train on.
        UnavailableError: no such model or device, or another process trains into `out`.
        Interrupted: a signal ended the training early; nothing but the resume state was written.
    """
    out = Path(out)
    recipe = resolve_recipe(model_name, recipe)
    run = Run(
        model_name, Path(data_dir), frames, seed, recipe, threads, device, devices, overrides or {},
        Path(start) if start else None, study, workers, label,
    )  # fmt: skip
    _check(run)
    with exclusive(out), _computing(run):
        results.clear(out)
        store = ResumeStore(out / "resume" / run.key)
        state = store.load()
        training = Training(run.build(), run.recipe, run.track, run.seed, store)
        _check_batch_norm(run, training.model)
        if state:
            training.restore(state)
        status, reason = "ok", ""
        if training.progress.epochs < recipe.epochs:
            status, reason = _train(run, training)
        return results.write(out, training, run, status, reason)


def help_with(team: Team, job: dict[str, Any]) -> None:
    """Train along with the process that leads; nothing is written.

    Args:
        team: with this process's place.
        job: `run`, and the `store` folder of its states.
    """
    run = Run.from_job(job["run"])
    with _computing(run):
        training = Training(run.build(), run.recipe, run.track, run.seed, None, team)
        if state := ResumeStore(Path(job["store"])).load():
            training.restore(state)
        sys.stdout.write(f"{READY}\n")
        sys.stdout.flush()
        _epochs(run, training)


def _check(run: Run) -> None:
    for name, least in (("frames", 1), ("seed", 0), ("threads", 1), ("devices", 1), ("workers", 0)):
        if getattr(run, name) < least:
            raise ConfigError(f"{name} must be {least} or more, found {getattr(run, name)}")
    if twice := sorted(run.overrides.keys() & run.track.arguments):
        raise ConfigError(f"{', '.join(twice)} is given twice: leave it out of the model's own settings")
    kind, _, number = run.device.partition(":")
    if run.devices > 1 and number:
        raise ConfigError(f"device {run.device} is one device, and {run.devices} are asked for; give {kind} alone")
    for place in [run.device] if kind == "cpu" or number else [f"{kind}:{n}" for n in range(run.devices)]:
        results.check_device(place)
    if run.sized.batch < run.devices:
        raise ConfigError(f"a batch of {run.sized.batch} clips cannot be shared by {run.devices} processes")
    if (run.recipe.start == "pretrained") != (run.start is not None):
        wants = "starts from pretrained weights: give their file" if run.start is None else "starts at random, found"
        raise ConfigError(f"the recipe {wants} {run.start or '(--start)'}. {run.recipe.note}")
    run.track.check()


def _check_batch_norm(run: Run, model: nn.Module) -> None:
    if run.devices == 1 or not any(isinstance(module, _BatchNorm) for module in model.modules()):
        return
    if run.recipe.batch_norm == "one_process":
        raise ConfigError(
            f"{run.model} has batch norms, so {run.devices} processes that normalise by their own clips train another "
            "model than one process does. Say which is meant: batch_norm=per_process, or batch_norm=synchronised on "
            "GPUs (--set)"
        )
    if run.recipe.batch_norm == "synchronised" and run.device == "cpu":
        raise ConfigError("batch_norm=synchronised needs GPUs; on the CPU only batch_norm=per_process can be had")


def _train(run: Run, training: Training) -> tuple[str, str]:
    """Run the epochs that are left, with helpers where there are several devices; how it ended: status and reason."""
    job = {"run": run.job(), "store": str(training.store.folder.resolve())} if run.devices > 1 else {}
    try:
        with assembled(run.devices, job) as training.team:
            _epochs(run, training)
    except Diverged as error:
        return "crashed", str(error)
    except torch.OutOfMemoryError as error:
        return "oom", str(error).splitlines()[0]
    if training.progress.epochs < run.recipe.epochs:
        raise Interrupted(f"stopped after epoch {training.progress.epochs}; the same command goes on from there")
    return "ok", ""


def _epochs(run: Run, training: Training) -> None:
    """This process's part of the epochs that are left."""
    done, team = training.progress.epochs, training.team
    train, val = run.loaders(done, team)
    kind, _, number = run.device.partition(":")
    trainer = L.Trainer(
        accelerator=kind, devices=[int(number)] if number and kind != "cpu" else run.devices,
        strategy=team.strategy(kind), precision=run.recipe.precision,
        sync_batchnorm=team.world > 1 and run.recipe.batch_norm == "synchronised",
        max_epochs=run.recipe.epochs, accumulate_grad_batches=run.recipe.accumulate,
        gradient_clip_val=run.recipe.gradient_clip, num_sanity_val_steps=0, logger=False, enable_checkpointing=False,
        enable_model_summary=False, enable_progress_bar=False, use_distributed_sampler=False,
        callbacks=progress_callbacks() if team.rank == 0 else [],
    )  # fmt: skip
    # Lightning's own resume skips hooks in the first epoch; a loop that simply starts at epoch `done` does not.
    trainer.fit_loop.epoch_progress.current.processed = trainer.fit_loop.epoch_progress.current.completed = done
    trainer.fit(training, train, val)


@contextmanager
def _computing(run: Run) -> Iterator[None]:
    """Threads, determinism and random state for the time of a run; Lightning's chatter is silenced."""
    deterministic = torch.are_deterministic_algorithms_enabled()
    chatter = logging.getLogger("lightning.pytorch")
    level = chatter.level
    cuda = range(torch.cuda.device_count()) if run.device.startswith("cuda") else []
    with torch.random.fork_rng(devices=cuda), warnings.catch_warnings(), torch_threads(run.threads):
        warnings.filterwarnings("ignore", module="lightning")
        chatter.setLevel(logging.WARNING)
        torch.use_deterministic_algorithms(True, warn_only=run.device != "cpu")
        try:
            yield
        finally:
            torch.use_deterministic_algorithms(deterministic)
            chatter.setLevel(level)
