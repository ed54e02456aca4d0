"""`posescale checkpoints`: the official weights, what they must look like, and which are on this machine."""

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from posescale.commands.output import AsJson, show


def checkpoints(
    model: Annotated[str | None, typer.Argument(help="Only of this model; all of them if unset.")] = None,
    folder: Annotated[
        Path | None,
        typer.Option(help="Where the files are (else POSESCALE_CHECKPOINTS, or POSESCALE_DATA/checkpoints)."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List the official checkpoints: model, data, source, licence, expected structure, and whether they are here.

    A file that is here is compared with its published hash or with that of its first use, and with the model's names
    and shapes; save each under the name in the table.
    """
    from posescale.cards import component, components

    names = [component(model).variant] if model else sorted(components())
    place = folder or _place()
    found = [(n, c) for n in names for c in component(n).card.variants[n].checkpoints]
    rows = [_row(name, checkpoint, place) for name, checkpoint in found]
    columns = ["model", "dataset", "save_as", "licence", "entries", "parameters", "status"]
    where = f"looked for in {place}" if place else "POSESCALE_CHECKPOINTS is not set"
    show(rows, as_json, f"Official checkpoints ({where})", columns)
    if not as_json:
        for row in rows:
            if row["path"] is None:
                typer.echo(f"{row['save_as']}: {row['file']} from {row['source']}")


def _place() -> Path | None:
    if own := os.environ.get("POSESCALE_CHECKPOINTS"):
        return Path(own)
    root = os.environ.get("POSESCALE_DATA")
    return Path(root) / "checkpoints" if root else None


def _row(name: str, checkpoint: Any, place: Path | None) -> dict[str, Any]:
    from posescale.cards import component

    card = component(name).card
    entries, parameters = _structure(name, checkpoint.parameters)
    own = [place / card.id / checkpoint.name, place / checkpoint.name] if place else []
    path = next((path for path in own if path.is_file()), None)
    return {
        "model": name, "dataset": checkpoint.dataset, "save_as": checkpoint.name, "source": checkpoint.source,
        "file": checkpoint.file, "licence": card.upstream.licence if card.upstream else None,
        "entries": entries, "parameters": parameters,
        "under": checkpoint.under, "prefix": checkpoint.prefix, "sha256": checkpoint.sha256,
        "built_with": ", ".join(f"{key}={value}" for key, value in checkpoint.parameters.items()),
        "note": checkpoint.note, "path": str(path) if path else None,
        "status": _status(name, checkpoint.parameters, path) if path else "not here",
    }  # fmt: skip


def _structure(name: str, parameters: dict[str, Any]) -> tuple[int, int]:
    """How many entries and parameters the weights have; the model is built without memory."""
    import torch

    from posescale.models import create_model

    with torch.device("meta"):
        model = create_model(name, **parameters)
    return len(model.state_dict()), sum(p.numel() for p in model.parameters())


def _status(name: str, parameters: dict[str, Any], path: Path) -> str:
    """Load the file into the model, as `evaluate` would."""
    import warnings

    from posescale.checkpoints import load_checkpoint
    from posescale.errors import CheckpointError
    from posescale.models import create_model

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about settings that no shape shows: the note says it
            load_checkpoint(create_model(name, **parameters), path)
    except CheckpointError as error:
        return f"refused: {error}"
    return "here, loads"
