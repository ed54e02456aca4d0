"""Parts 4 and 5: models trained and scored on one dataset at one budget; a cut training goes on in the next call."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from posescale import records
from posescale.campaign.cell import Context
from posescale.data import catalog
from posescale.errors import DataError, UnavailableError
from posescale.records import Record

SELECTIONS = ("last", "val-best")


def train(
    context: Context, model: str, frames: int, seed: int, data: dict[str, Any], recipe: str = "small",
    changes: dict[str, Any] | None = None, overrides: dict[str, Any] | None = None, workers: int = 0,
) -> Iterator[Record]:  # fmt: skip
    """Train one model with one seed and score its weights, last and best by validation, on the test split.

    Args:
        context: device, study, and the folder that keeps prepared data and training states between calls.
        model, frames, seed: id, T, seed.
        data: `name` of a dataset, and its reader's `settings`; raw files below POSESCALE_DATA. Generated data are made
            by the first cell that wants them, and kept.
        recipe, changes: name of a recipe on the model's card, and fields set alike for every model.
        overrides: constructor arguments.
        workers: processes that read ahead.

    Yields:
        the training's record and those of `_scores`; one `blocked` record where the data are not to be had.
    """
    from posescale.cards import component
    from posescale.train.fit import fit, resolve_recipe

    try:
        folder = prepared(context.out, data["name"], data.get("settings", {}))
    except (DataError, UnavailableError) as error:
        yield _blocked(context, model, frames, seed, data["name"], str(error))
        return
    chosen = resolve_recipe(model, recipe).override(**(changes or {}))
    out = context.out / "trained" / f"{model}-T{frames}-{folder.name}-seed{seed}"
    trained = _finished(out, folder, Record(
        kind="training", component="", variant=model, digest=component(model).digest, study=context.study,
        frames=frames, seed=seed, device=context.device,
        options={"recipe": chosen.model_dump(mode="json"), "overrides": overrides or {}},
    )) or fit(
        model, folder, frames, seed, chosen, out, device=context.device, overrides=overrides, study=context.study,
        workers=workers,
    )  # fmt: skip
    yield trained
    if trained.status == "ok":
        yield from _scores(context, model, frames, folder, out)


def _finished(out: Path, data: Path, wanted: Record) -> Record | None:
    """The record of this very training where an earlier call ended it and was cut while scoring, else None."""
    if not (out / "record.jsonl").exists():
        return None
    digest = json.loads((data / "index.json").read_text(encoding="utf-8"))["digest"]
    for record in records.read(out / "record.jsonl"):
        fields = ("variant", "digest", "study", "frames", "seed", "device", "status")
        same = all(getattr(record, field) == getattr(wanted, field) for field in fields)
        same &= all(record.options.get(option) == value for option, value in wanted.options.items())
        if same and record.data_digest == digest and all((out / f"weights-{s}.pt").exists() for s in SELECTIONS):
            return record
    return None


def _scores(context: Context, model: str, frames: int, data: Path, out: Path) -> Iterator[Record]:
    """The last weights and the best ones by validation; the last weights of a video model also without their time."""
    from posescale.cards import component
    from posescale.train import evaluate as lifting
    from posescale.train.video import evaluate as video

    shared = {"device": context.device, "study": context.study}
    last, best = (out / f"weights-{selection}.pt" for selection in SELECTIONS)
    if component(model).card.task == "video":
        for condition in video.CONDITIONS if frames > 1 else ("as_is",):
            yield video.evaluate(model, data, weights=last, condition=condition, **shared)
        yield video.evaluate(model, data, weights=best, **shared)
    else:
        for weights in (last, best):
            yield lifting.evaluate(model, data, weights=weights, **shared)


def prepared(out: Path, name: str, settings: dict[str, Any]) -> Path:
    """The folder of a dataset prepared with these settings; prepared now if it is not there.

    Raises:
        DataError, UnavailableError: the raw files are wrong or missing.
    """
    words = "-".join(f"{key}={value}" for key, value in sorted(settings.items()))
    folder = out / "data" / (f"{name}-{words}" if words else name)
    if not (folder / "index.json").exists():
        catalog.prepare(name, folder, None, settings)
    return folder


def _blocked(context: Context, model: str, frames: int, seed: int, dataset: str, reason: str) -> Record:
    from posescale.cards import component
    from posescale.provenance import fingerprint

    found = component(model)
    return Record(
        kind="accuracy", component=found.card.id, variant=model, digest=found.digest, study=context.study,
        dataset=dataset, frames=frames, seed=seed, device=context.device, status="blocked", reason=reason,
        fingerprint=fingerprint(),
    )  # fmt: skip
