"""How long a configuration's trainings take: steps counted from recipe and data, seconds of a step measured.

A step is timed on this machine, or taken from the training records of another. Seconds are never carried from one
device to another, and where nothing was measured the forecast says so.
"""

import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from posescale.cards import component
from posescale.config import Config, Study
from posescale.data.clips import Videos, cut
from posescale.data.prepared import PreparedData
from posescale.data.scored import videos
from posescale.data.video.clips import VideoClips
from posescale.data.video.prepared import VideoData
from posescale.errors import ConfigError
from posescale.measure.subject import Subject
from posescale.models import create_model
from posescale.provenance import cpu_name
from posescale.recipes import Recipe
from posescale.records import Record
from posescale.stats import bootstrap_median
from posescale.train import losses
from posescale.train.lifting import answered
from posescale.train.module import make_optimizer
from posescale.train.results import DTYPES
from posescale.train.run import TRACKS
from posescale.train.threads import torch_threads

HOUR = 3600.0


@dataclass(frozen=True)
class Cell:
    """One model of a study at one clip length.

    Attributes:
        study, model, frames: which; `model` is the study's name for it.
        seeds: how many trainings.
        recipe: with batch and stride for this clip length.
        steps: optimiser steps of one training; None where the size of the data is not known.
        variant: id of the model.
        arguments: its constructor's, besides T.
        size_from: `prepared`, `expected` (the configuration's word) or `recipe` (it counts steps itself).
    """

    study: str
    model: str
    frames: int
    seeds: int
    recipe: Recipe
    steps: int | None
    size_from: str
    variant: str
    arguments: Mapping[str, Any]

    @property
    def clips(self) -> int:
        """Clips of one optimiser step."""
        return self.recipe.batch * self.recipe.accumulate


@dataclass(frozen=True)
class StepTime:
    """Seconds of one optimiser step on a device, with an interval where there is one, and where they come from."""

    seconds: float
    low: float | None
    high: float | None
    basis: str


def cells(config: Config, root: Path) -> Iterator[Cell]:
    """All trainings of a configuration; sizes are read from the data prepared below `root`, where there are any."""
    for name, study in config.studies.items():
        video = study.task == "video"
        size, size_from = (_people if video else _videos)(study, root / "data" / name)
        sides = dict(zip(("height", "width"), study.size or (), strict=False))
        for model, frames in study.cells():
            recipe = study.recipe(model).at(frames)
            if recipe.steps_per_epoch:
                steps, source = recipe.epochs * recipe.steps_per_epoch, "recipe"
            elif size is None:
                steps, source = None, "unknown"
            else:
                whole = _batches(size, recipe) if video else steps_of(recipe, size, frames)
                steps, source = recipe.epochs * whole, size_from
            arguments = {**study.choice(model).overrides, **sides}
            yield Cell(name, model, frames, len(study.seeds), recipe, steps, source, study.variant(model), arguments)


def _people(study: Study, prepared: Path) -> tuple[int | None, str]:
    """Annotated people in the training videos; of the expected size one in every frame."""
    if (prepared / "index.json").exists():
        return len(VideoClips(VideoData(prepared), "train", 1, 16, 16)), "prepared"
    expected = study.dataset.expected if study.dataset else None
    return (expected.frames, "expected") if expected else (None, "unknown")


def _batches(clips: int, recipe: Recipe) -> int:
    return math.ceil(math.ceil(clips / recipe.batch) / recipe.accumulate)


def _videos(study: Study, prepared: Path) -> tuple[Videos | None, str]:
    """The training sequences; of the expected size, all equally long, while the data are not prepared."""
    if (prepared / "index.json").exists():
        return videos(PreparedData(prepared), "train"), "prepared"
    expected = study.dataset.expected if study.dataset else None
    if expected is None:
        return None, "unknown"
    return Videos([expected.frames // expected.sequences] * expected.sequences), "expected"


def steps_of(recipe: Recipe, sequences: Videos, frames: int) -> int:
    """Optimiser steps of one pass over some sequences."""
    count = len(cut(recipe.windows, sequences, frames, recipe.stride)) * (2 if recipe.flip == "doubling" else 1)
    return _batches(count, recipe)


def measure(
    wanted: list[Cell],
    rounds: int,
    clips: int | None = None,
    device: str = "cpu",
    threads: int = 1,
    progress: Callable[[], None] = lambda: None,
) -> dict[tuple[str, int, int], StepTime]:
    """Time a step of every cell here, all cells in turn, round after round.

    Args:
        wanted: the cells; those of one model, clip length and step are timed once.
        rounds: timed steps of each, after one that is not timed.
        clips: per timed step; on the CPU a step of more clips takes in proportion, and 2 are timed when not given.
            On a GPU, where it does not, the recipe's own batch is.
        device: cpu or cuda.
        threads: torch's.
        progress: called after each step.

    Returns:
        (model, frames, clips of a step) -> its time.
    """
    samples: dict[tuple[str, int, int], list[float]] = defaultdict(list)
    unique = {(cell.model, cell.frames, cell.clips): cell for cell in wanted}
    timed = {k: min(c.recipe.batch, clips or (c.recipe.batch if device != "cpu" else 2)) for k, c in unique.items()}
    with torch_threads(threads):
        for _ in range(rounds):
            for key, cell in unique.items():
                samples[key].append(_step_seconds(cell, timed[key], device))
                progress()
    found = {}
    for key, cell in unique.items():
        times = np.array(samples[key]) * cell.clips / timed[key]
        estimate = bootstrap_median(times[:, None])
        how = f"{timed[key]} clips timed, times {cell.clips / timed[key]:g}" if timed[key] != cell.clips else "timed"
        found[key] = StepTime(estimate.value, estimate.low, estimate.high, f"here, {rounds} rounds, {how}")
    return found


def _step_seconds(cell: Cell, clips: int, device: str) -> float:
    """Seconds of forward, backward and optimiser over `clips` random clips; one such step goes before."""
    torch.manual_seed(0)
    model = create_model(cell.variant, frames=cell.frames, **cell.arguments).to(device).train()
    optimizer = make_optimizer(model, cell.recipe)
    video = component(cell.variant).card.task == "video"
    shape = Subject(cell.variant, cell.frames, clips, cell.arguments).shape() if video else (clips, cell.frames, 17, 3)
    inputs, targets = (torch.randn(shape, device=device) for _ in range(2))
    mixed = torch.autocast(device.partition(":")[0], torch.bfloat16, enabled=cell.recipe.precision == "bf16-mixed")
    seconds = 0.0
    for _ in range(2):
        _wait(device)
        start = time.monotonic()
        with mixed:
            pred = model(inputs)
            lifted = None if video else answered(targets, pred.shape[1])
            loss = pred.square().mean() if video else losses.total(pred, lifted, cell.recipe.losses)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        _wait(device)
        seconds = time.monotonic() - start
    return seconds


def _wait(device: str) -> None:
    if device != "cpu":
        torch.cuda.synchronize(device)


def here(device: str) -> str:
    """Name of the device that `measure` times on."""
    return cpu_name() if device == "cpu" else torch.cuda.get_device_name(device)


def recorded(records: Iterable[Record], wanted: list[Cell]) -> dict[str, dict[tuple[str, int, int], StepTime]]:
    """Step times from training records, by device: same model, clip length, clips per step and precision."""
    asked = {(c.model, c.frames, c.clips, DTYPES[c.recipe.precision]) for c in wanted}
    found: dict[str, dict[tuple[str, int, int], list[float]]] = defaultdict(lambda: defaultdict(list))
    for record in records:
        values = {v.name: v.value for v in record.values}
        if record.kind != "training" or record.status != "ok" or not values.get("steps"):
            continue
        accumulate = (record.options.get("recipe") or {}).get("accumulate", 1)
        key = (record.label or record.variant, record.frames, record.batch * accumulate)
        if (*key, record.dtype) in asked:
            found[device_of(record)][key].append(values["seconds"] / values["steps"])
    return {
        device: {key: _pooled(times) for key, times in by_cell.items()} for device, by_cell in sorted(found.items())
    }


def _pooled(times: list[float]) -> StepTime:
    count = f"{len(times)} training record{'s' if len(times) > 1 else ''}, validation included"
    low, high = (min(times), max(times)) if len(times) > 1 else (None, None)
    return StepTime(float(np.median(times)), low, high, count)


def device_of(record: Record) -> str:
    """What a record was made on, and how many of them."""
    gpu = record.fingerprint.get("gpu") if (record.device or "").startswith("cuda") else None
    name = gpu.get("name", gpu) if isinstance(gpu, dict) else gpu
    count = record.options.get("devices", 1)
    return f"{name or record.fingerprint.get('cpu', 'unknown')}{f' x{count}' if count and count > 1 else ''}"


def forecast(
    wanted: list[Cell], times: dict[str, dict[tuple[str, int, int], StepTime]]
) -> list[dict[str, str | int | float | None]]:
    """One row per cell and device, then one per device with the sum of what is known and what is not.

    Args:
        wanted: the cells.
        times: step times by device; every cell appears for every device, measured or not.
    """
    rows = []
    for device, by_cell in times.items():
        own = [_row(cell, device, by_cell.get((cell.model, cell.frames, cell.clips))) for cell in wanted]
        known = [row for row in own if row["hours"] is not None]
        total = dict.fromkeys(own[0], None) | {
            "study": "total", "device": device, "hours": sum(row["hours"] for row in known),
            "hours_low": _sum(known, "hours_low"), "hours_high": _sum(known, "hours_high"),
            "basis": f"{len(known)} of {len(own)} rows; {len(own) - len(known)} not measured on this device",
        }  # fmt: skip
        rows += [*own, total]
    return rows


def _row(cell: Cell, device: str, step: StepTime | None) -> dict[str, str | int | float | None]:
    runs = None if cell.steps is None else cell.steps * cell.seeds / HOUR
    hours = [
        None if None in (runs, s) else s * runs for s in ((step.seconds, step.low, step.high) if step else [None] * 3)
    ]
    return {
        "study": cell.study, "model": cell.model, "frames": cell.frames, "seeds": cell.seeds, "steps": cell.steps,
        "steps_from": cell.size_from, "clips_per_step": cell.clips, "origin": cell.recipe.origin, "device": device,
        "seconds_per_step": step.seconds if step else None, "hours": hours[0], "hours_low": hours[1],
        "hours_high": hours[2], "basis": step.basis if step else "no measurement on this device",
    }  # fmt: skip


def _sum(rows: list[dict], column: str) -> float | None:
    """The sum where every row has the bound: interval ends added up are wider than the interval of the sum."""
    values = [row[column] for row in rows]
    return None if not values or None in values else sum(values)


def check(wanted: list[Cell]) -> None:
    """Raise ConfigError where nothing is trained, or a model cannot be trained here at all."""
    if not wanted:
        raise ConfigError("this configuration trains nothing, so there are no hours of training to forecast")
    for cell in wanted:
        if (task := component(cell.variant).card.task) not in TRACKS:
            raise ConfigError(f"{cell.model} is a {task} component; only lifting and video models are trained here")
