"""`posescale train`: one model, one dataset, one clip length, one seed."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from posescale.commands.data import parse_settings
from posescale.commands.output import AsJson, show

if TYPE_CHECKING:
    from posescale.recipes import Recipe
    from posescale.records import Record


def train(
    name: Annotated[str, typer.Argument(help="Model, as listed by `posescale models`.")],
    data: Annotated[Path, typer.Option(help="Prepared data (`posescale data prepare`).")],
    frames: Annotated[int, typer.Option(help="Clip length T.")],
    out: Annotated[Path, typer.Option(help="Folder for weights, history and record; resumes what was begun there.")],
    seed: Annotated[int, typer.Option(help="Of initial weights, batch order, flips.")] = 0,
    recipe: Annotated[str, typer.Option(help="Name of a recipe on the model's card.")] = "small",
    changes: Annotated[
        list[str] | None,
        typer.Option("--set", help="Change the recipe: lr=1e-3, epochs=5, losses.velocity=0. Repeatable."),
    ] = None,
    study: Annotated[str, typer.Option(help="Name of the study, for the record.")] = "",
    threads: Annotated[int, typer.Option(help="Threads torch may use.")] = 1,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    devices: Annotated[int, typer.Option(help="Processes that share each batch, one device each.")] = 1,
    start: Annotated[Path | None, typer.Option(help="Pretrained weights, for a recipe that starts from them.")] = None,
    workers: Annotated[int, typer.Option(help="Processes that read clips ahead.")] = 0,
    height: Annotated[int | None, typer.Option(help="Of a video model's crops; the variant's own, if unset.")] = None,
    width: Annotated[int | None, typer.Option(help="Of a video model's crops; the variant's own, if unset.")] = None,
    model: Annotated[
        list[str] | None,
        typer.Option("--model", help="A constructor argument of the model, as key=value. Repeatable."),
    ] = None,
    label: Annotated[str, typer.Option(help="What the study calls the model, if not by its id.")] = "",
    as_json: AsJson = False,
) -> None:
    """Train a model; interrupted or killed, the same command goes on after the last finished epoch."""
    from posescale.train.fit import fit, resolve_recipe

    chosen = changed(resolve_recipe(name, recipe), changes or [])
    size = {"height": height, "width": width}
    overrides = parse_settings(model or [], "--model") | {side: n for side, n in size.items() if n is not None}
    record = fit(
        name, data, frames, seed, chosen, out, threads, device, overrides, study=study, devices=devices, start=start,
        workers=workers, label=label,
    )  # fmt: skip
    if record.status != "ok":
        sys.exit(f"posescale: {name} T={frames} seed={seed}: {record.status}: {record.reason}; see {out}/history.csv")
    show([_row(record, out)], as_json)


def changed(recipe: "Recipe", texts: list[str]) -> "Recipe":
    """A recipe with fields replaced; `losses.TERM=weight` or `crops.sigma=1` changes one entry of a section.

    Raises:
        ConfigError: an unknown field, or a value of the wrong type.
    """
    flat = parse_settings(texts)
    for section in ("losses", "crops"):
        part = {key.partition(".")[2]: flat.pop(key) for key in list(flat) if key.startswith(f"{section}.")}
        if part:
            before = getattr(recipe, section)
            flat[section] = (before.model_dump() if before else {}) | part
    return recipe.override(**flat)


def _row(record: "Record", out: Path) -> dict[str, Any]:
    values = {value.name: value.value for value in record.values}
    watched: dict[str, Any] = {}
    for v in record.values:  # none where the data have no validation split
        if v.name.startswith("val_") and not v.name.endswith("_best"):
            watched |= {v.name: v.value, "val_unit": v.unit}
    return {
        "model": record.variant, "frames": record.frames, "seed": record.seed, "epochs": int(values["epochs"]),
        "steps": int(values["steps"]), "seconds": values["seconds"], "loss": values["loss"],
        **watched,
        "best_epoch": int(values.get("best_epoch", 0)) or None, "out": str(out),
    }  # fmt: skip
