"""Trained models, back from their files."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from posescale.cards import component
from posescale.checkpoints import load_checkpoint, read_weights_meta
from posescale.errors import ConfigError
from posescale.models import create_model
from posescale.train.results import weights_digest

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Trained:
    """A model with its weights.

    Attributes:
        model: in evaluation mode.
        frames: T.
        meta: what `posescale train` noted in the file; empty for an official checkpoint.
        digest: of the weights.
        parameters: the constructor's arguments.
    """

    model: nn.Module
    frames: int
    meta: Mapping[str, Any]
    digest: str
    parameters: Mapping[str, Any]


def noted(meta: Mapping[str, Any], seed: int | None, selection: str | None) -> dict[str, Any]:
    """Fields of a record that a weights file knows: the study's name for it, and seed and selection if not given."""
    return {
        "label": meta.get("label", ""), "seed": meta.get("seed") if seed is None else seed,
        "selection": selection or meta.get("selection"),
    }  # fmt: skip


def origin(meta: Mapping[str, Any]) -> dict[str, Any]:
    """Options of a record that a weights file knows: epoch, digest of the training data, constructor arguments."""
    known = {"epoch": meta.get("epoch"), "trained_on": meta.get("data_digest")}
    return known | {"overrides": meta.get("overrides") or {}}


def load_trained(name: str, frames: int | None, weights: Path | str | None, **arguments: Any) -> Trained:
    """Build a model and load its weights.

    Args:
        name: variant id.
        frames: T; the one the weights were trained with, or the variant's, when not given.
        weights: a file of `posescale train`, or an official checkpoint.
        **arguments: further constructor arguments, for a file that does not note any.

    Raises:
        ConfigError: no weights, another model's weights, or no T.
        CheckpointError: the weights cannot be read or do not fit.
    """
    if weights is None:
        raise ConfigError(f"{name} needs weights: train it first, or give a checkpoint file")
    meta, found = read_weights_meta(weights), component(name)
    if meta.get("variant", name) != name:
        raise ConfigError(f"{weights} holds {meta['variant']}, not {name}")
    if meta.get("component_digest", found.digest) != found.digest:
        log.warning("%s was trained with another version of %s's source", weights, name)
    chosen = meta.get("parameters") or arguments | ({"frames": frames} if frames else {})
    parameters = found.parameters | chosen
    frames = frames or meta.get("frames") or parameters.get("frames")
    if not isinstance(frames, int):
        raise ConfigError(f"{name} and {weights} do not say how many frames a window has; give frames")
    model = create_model(name, **chosen)
    load_checkpoint(model, weights)
    return Trained(model.eval(), frames, meta, weights_digest(model.state_dict()), parameters)
