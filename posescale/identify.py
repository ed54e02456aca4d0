"""Whose weights a file holds: names and shapes compared with every model there is, built without memory."""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch

from posescale.cards import Card, components
from posescale.checkpoints import translate
from posescale.models import create_model

Shapes = Mapping[str, tuple[int, ...]]
LENGTHS = (9, 27, 81, 243)  # that the field trains models for
KIN = 0.5  # share of kinds of entries in common from which a file counts as a model's


def shapes_of(name: str, **parameters: Any) -> dict[str, tuple[int, ...]]:
    """Names and shapes of a model's weights, in order; no memory is taken for them.

    Raises:
        UnavailableError, ConfigError: as `create_model`.
    """
    with torch.device("meta"):
        return {key: tuple(entry.shape) for key, entry in create_model(name, **parameters).state_dict().items()}


def looks_like(shapes: Shapes) -> str:
    """What a file's weights look like, in words; empty when they resemble no model there is.

    Args:
        shapes: names, without the prefix of data-parallel training, and shapes.
    """
    card = _nearest(shapes)
    if card is None:
        return ""
    shapes = translate(shapes, card.key_map)
    for name, parameters in _sizes(card, set(shapes)):
        if _known(name, parameters) == shapes:
            said = ", ".join(f"{key}={value}" for key, value in parameters.items())
            return f"It looks like {name}{f' built with {said}' if said else ''}"
    return f"Its names are those of {card.title}, but no size of it that is known here has these shapes"


def _nearest(shapes: Shapes) -> Card | None:
    """The card whose first variant shares most kinds of entries with the file, whatever the depth of either."""
    best, found = KIN, None
    for card in {c.card.id: c.card for c in components().values() if c.card.task != "control"}.values():
        kinds, own = _kinds(translate(shapes, card.key_map)), _kinds(_known(next(iter(card.variants)), {}))
        share = len(kinds & own) / len(kinds | own)
        if share > best:
            best, found = share, card
    return found


def _kinds(names: Iterable[str]) -> set[str]:
    """Names without the numbers of layers."""
    return {re.sub(r"\d+", "#", name) for name in names}


def _sizes(card: Card, names: set[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Variants with these names: as they are, as their official files have them, then for other lengths."""
    alike = [name for name in card.variants if set(_known(name, {})) == names]
    yield from ((name, {}) for name in alike)
    for name, variant in card.variants.items():
        yield from ((name, checkpoint.parameters) for checkpoint in variant.checkpoints if checkpoint.parameters)
    for name in alike:
        if "frames" in card.variants[name].parameters:
            yield from ((name, {"frames": frames}) for frames in LENGTHS)


def _known(name: str, parameters: dict[str, Any]) -> Shapes:
    """Shapes of a model; none where it cannot be built: then it is not what the file was made for."""
    try:
        return shapes_of(name, **parameters)
    except Exception:  # a component from outside may fail in any way, and a length may not suit a variant
        return {}
