"""`posescale models`: what there is, from the components' cards."""

from typing import Annotated, Any, get_args
from urllib.parse import urlsplit

import typer

from posescale.cards import Task, component, components, list_models
from posescale.commands.output import AsJson, show
from posescale.errors import ConfigError


def models(
    task: Annotated[
        str | None,
        typer.Option(help="Only models of this task: lifting, video or control (all but controls if unset)."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List every model: its task, true number of parameters, paper, licence of the official code, official weights."""
    if task is not None and task not in get_args(Task):
        raise ConfigError(f"--task: expected one of {', '.join(get_args(Task))}, found {task!r}")
    rows = [_row(name) for name in list_models(task)]
    columns = ["model", "task", "parameters", "paper", "licence", "weights"]
    show(rows, as_json, title=f"{len(rows)} of {len(components())} models and controls", columns=columns)


def _row(name: str) -> dict[str, Any]:
    found = component(name)
    card, variant = found.card, found.card.variants[name]
    checkpoint = variant.checkpoint
    return {
        "model": name,
        "component": card.id,
        "task": card.task,
        "parameters": None if card.task == "control" else _parameters(name),
        "output": card.output,
        "confidence": card.confidence,
        "paper": f"{card.paper.venue} {card.paper.year}" if card.paper else None,
        "paper_title": card.paper.title if card.paper else None,
        "paper_url": card.paper.url if card.paper else None,
        "licence": card.upstream.licence if card.upstream else None,
        "upstream": card.upstream.repository if card.upstream else None,
        "weights": urlsplit(checkpoint.source).netloc or checkpoint.source if checkpoint else None,
        "checkpoint": checkpoint.file if checkpoint else None,
        "checkpoint_source": checkpoint.source if checkpoint else None,
        "note": variant.note,
        "digest": found.digest,
    }


def _parameters(name: str) -> int:
    """Counted on a model that is built without memory."""
    import torch

    from posescale.models import create_model

    with torch.device("meta"):
        return sum(p.numel() for p in create_model(name).parameters())
