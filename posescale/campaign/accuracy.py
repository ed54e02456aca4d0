"""Part 4: models trained and scored on one dataset at one budget; a training that is cut goes on in the next call."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from posescale.campaign.cell import Context
from posescale.data import catalog
from posescale.errors import DataError, UnavailableError
from posescale.records import Record


def train(
    context: Context, model: str, frames: int, seed: int, data: dict[str, Any], recipe: str = "small",
    changes: dict[str, Any] | None = None, overrides: dict[str, Any] | None = None,
) -> Iterator[Record]:  # fmt: skip
    """Train one model with one seed and score its weights, last and best by validation, on the test split.

    Args:
        context: device, study, and the folder that keeps prepared data and training states between calls.
        model, frames, seed: id, T, seed.
        data: `name` of a dataset, and its reader's `settings`; raw files below POSESCALE_DATA.
        recipe, changes: name of a recipe on the model's card, and fields set alike for every model.
        overrides: constructor arguments.

    Yields:
        the training's record and two of kind `accuracy`; one `blocked` record where the data are not to be had.
    """
    from posescale.train.evaluate import evaluate
    from posescale.train.fit import fit, resolve_recipe

    try:
        folder = prepared(context.out, data["name"], data.get("settings", {}))
    except (DataError, UnavailableError) as error:
        yield _blocked(context, model, frames, seed, data["name"], str(error))
        return
    chosen = resolve_recipe(model, recipe).override(**(changes or {}))
    out = context.out / "trained" / f"{model}-T{frames}-{data['name']}-seed{seed}"
    trained = fit(model, folder, frames, seed, chosen, out, device=context.device, overrides=overrides,
                  study=context.study)  # fmt: skip
    yield trained
    if trained.status == "ok":
        for selection in ("last", "val-best"):
            weights = out / f"weights-{selection}.pt"
            yield evaluate(model, folder, weights=weights, device=context.device, study=context.study)


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
