"""Weights in files: official checkpoints and our own, read without running anything that a pickle may ask for."""

import inspect
import io
import logging
import pickle
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import numpy as np
import torch
from torch import nn

from posescale import lockfile
from posescale.cards import Card, Checkpoint, read_card
from posescale.errors import CheckpointError, DataError
from posescale.files import whole_file

log = logging.getLogger(__name__)
State = dict[str, torch.Tensor]
Entry = TypeVar("Entry")

_WEIGHT_KEYS = ("model_pos", "model", "state_dict")  # where the lifting and the video code bases keep the weights
_SHOWN = 5
_NUMBERS = tuple({type(np.dtype(code)) for code in np.typecodes["AllFloat"] + np.typecodes["AllInteger"] + "?"})


def _number(dtype: np.dtype, raw: bytes) -> np.generic:
    """A numpy number from its bytes; stands in for numpy's own function, which would build objects too."""
    if type(dtype) not in _NUMBERS:
        raise pickle.UnpicklingError(f"numpy scalar of type {dtype}")
    return np.frombuffer(raw, dtype, count=1)[0]


class _Ignored:
    """Stands for numpy arrays and random generators that training scripts save beside the weights; holds nothing."""

    def __init__(self, *_arguments: Any) -> None: ...

    def __setstate__(self, _state: Any) -> None: ...


_SAFE = [
    np.dtype,
    *_NUMBERS,
    *((_number, f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")),
    *((_Ignored, f"numpy.{core}.multiarray._reconstruct") for core in ("core", "_core")),
    *((_Ignored, f"numpy.{name}") for name in ("ndarray", "random.__RandomState_ctor", "random._mt19937.MT19937")),
    *((_Ignored, f"numpy.random._pickle.__{name}_ctor") for name in ("randomstate", "bit_generator")),
]


def load_checkpoint(model: nn.Module, path: Path | str) -> None:
    """Load the weights of a checkpoint file into `model`, strictly; on any error the model is unchanged.

    Understands the files of the official code bases: weights under `model_pos`, `model` or `state_dict`, or nothing
    but weights; a `module.` prefix on every name; numpy numbers and generators beside the weights. Where a
    component's card says that official names differ from ours (`key_map`), they are translated.

    A model whose weights depend on settings that no shape shows names them in `hidden_settings`; a file that notes
    other values is refused, one that notes none (an official one) loads with a warning.

    A file that is called like an official one of the model's card must have its published hash; where none is
    published, its first use notes the hash beside it (`fetched.json`), and a changed file is refused from then on.

    Raises:
        CheckpointError: the file cannot be read, holds no weights, is not the official file that its name says, or
            does not fit: which entries and shapes, and whose weights they look like.
    """
    official = _official(model, Path(path))
    content = _read(Path(path))
    state = _weights(content, Path(path))
    own = {name: entry.shape for name, entry in model.state_dict().items()}
    if not state.keys() <= own.keys():
        state = translate(state, _key_map(model))
    wrong = _differences(own, {name: entry.shape for name, entry in state.items()})
    if wrong:
        raise CheckpointError(
            f"{path} does not fit {type(model).__name__}: {'; '.join(wrong)}. "
            f"Build the variant (and frames=, channels=) that the file was made for; nothing was loaded.{_guess(state)}"
        )
    _check_hidden_settings(model, content, Path(path))
    model.load_state_dict(state, strict=True)
    if official:
        _note(official, Path(path))


def save_weights(path: Path | str, model: nn.Module, meta: Mapping[str, Any]) -> None:
    """Write `{"model_pos": weights, "posescale": meta}` atomically; `meta` holds plain values and numpy numbers.

    Raises:
        CheckpointError: `meta` holds something that `load_checkpoint` would refuse to read back.
    """
    path = Path(path)
    _check_plain(meta, path)
    state = {name: entry.detach().cpu() for name, entry in model.state_dict().items()}
    with whole_file(path) as stream:
        torch.save({"model_pos": state, "posescale": dict(meta)} | _hidden(model), stream)


def read_weights_meta(path: Path | str) -> dict[str, Any]:
    """What `save_weights` noted beside the weights; empty for the file of another code base.

    Raises:
        CheckpointError: the file cannot be read.
    """
    content = _read(Path(path))
    meta = content.get("posescale", {}) if isinstance(content, Mapping) else {}
    return dict(meta) if isinstance(meta, Mapping) else {}


def read_weights(path: Path | str) -> State:
    """The weights of a checkpoint file by name, whatever model they belong to; understood as by `load_checkpoint`.

    Raises:
        CheckpointError: the file cannot be read or holds no weights.
    """
    return _weights(_read(Path(path)), Path(path))


def _hidden(model: nn.Module) -> dict[str, dict[str, Any]]:
    """`{"hidden_settings": {name: value}}` of a model that has settings which no shape of its weights shows."""
    settings = getattr(model, "hidden_settings", None)
    return {"hidden_settings": dict(settings)} if settings else {}


def _check_hidden_settings(model: nn.Module, content: Any, path: Path) -> None:
    own = _hidden(model).get("hidden_settings", {})
    noted = content.get("hidden_settings") if isinstance(content, Mapping) else None
    noted = noted if isinstance(noted, Mapping) else {}
    other = [
        f"{key}={value}, not {own.get(key, 'the default')}"
        for key, value in noted.items()
        if key not in own or own[key] != value
    ]
    if other:
        raise CheckpointError(
            f"{path} was made for {', '.join(other)}: its shapes fit this {type(model).__name__} all the same, but its "
            "poses would be wrong. Build the model as the file was made; nothing was loaded."
        )
    if unsaid := [f"{key}={value}" for key, value in own.items() if key not in noted]:
        warnings.warn(
            f"{path} does not say whether it was made for {', '.join(unsaid)}, and its shapes cannot show it; with "
            "weights made otherwise this model gives wrong poses and no error",
            stacklevel=3,
        )


def _check_plain(meta: Mapping[str, Any], path: Path) -> None:
    for key, noted in meta.items():
        try:
            torch.save(noted, copy := io.BytesIO())
            copy.seek(0)
            _load(copy)
        except Exception as error:
            raise CheckpointError(f"{path}: cannot note {key} = {noted!r}: not a plain value") from error


def _load(file: Path | BinaryIO) -> Any:
    with torch.serialization.safe_globals(_SAFE):
        return torch.load(file, map_location="cpu", weights_only=True)


def _read(path: Path) -> Any:
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file; expected a checkpoint written by torch.save")
    try:
        return _load(path)
    except Exception as error:  # a torn or foreign file can break the reader in any way
        refused = re.search(r"GLOBAL (\S+)", str(error))
        if refused:
            raise CheckpointError(
                f"{path}: holds {refused[1]}, and only tensors, plain values and numpy numbers are read, because "
                "loading anything else could run code. Nothing was run; re-save the weights alone."
            ) from error
        size = path.stat().st_size
        raise CheckpointError(
            f"{path}: not a readable checkpoint ({size:,} bytes; {type(error).__name__}). Expected a file written by "
            "torch.save; it may be torn (compare its size with the source) or of another kind (an unpacked .bin?)."
        ) from error


def _weights(content: Any, path: Path) -> State:
    """The state_dict inside a checkpoint's content, without the prefix DataParallel puts before every name."""
    held = content if isinstance(content, Mapping) else {}
    state = next((held[key] for key in _WEIGHT_KEYS if isinstance(held.get(key), Mapping)), held)
    tensors = {name: entry for name, entry in state.items() if isinstance(entry, torch.Tensor)}
    if not tensors or len(tensors) < len(state):
        found = ", ".join(map(str, list(held)[:_SHOWN])) or type(content).__name__
        raise CheckpointError(f"{path}: no weights found; expected a dictionary of tensors, bare or under "
                              f"{', '.join(_WEIGHT_KEYS)}, found {found}")  # fmt: skip
    prefixed = all(str(name).startswith("module.") for name in tensors)
    return {str(name).removeprefix("module.") if prefixed else str(name): entry for name, entry in tensors.items()}


def _card(model: nn.Module) -> Card | None:
    """The card beside the model's source file."""
    path = Path(inspect.getfile(type(model))).with_name("card.yaml")
    return read_card(path) if path.is_file() else None


def _key_map(model: nn.Module) -> dict[str, str]:
    card = _card(model)
    return card.key_map if card else {}


def _official(model: nn.Module, path: Path) -> Checkpoint | None:
    """The official file that `path` is called like, after its hash was compared with what is known of it."""
    card = _card(model)
    known = [c for variant in card.variants.values() for c in variant.checkpoints] if card else []
    found = next((checkpoint for checkpoint in known if checkpoint.name == path.name), None)
    if found and path.is_file():
        try:
            lockfile.check(path.parent, path.name, found.sha256)
        except DataError as error:
            raise CheckpointError(str(error)) from error
    return found


def _note(official: Checkpoint, path: Path) -> None:
    """Note the hash of an official file at its first use."""
    try:
        if path.name not in lockfile.read_lock(path.parent).files:
            lockfile.record(path.parent, path.name, f"{official.source}, {official.file}")
    except OSError as error:
        log.warning("%s: its hash could not be noted (%s); a change of the file will not be noticed",
                    path, error.strerror or error)  # fmt: skip


def _guess(state: State) -> str:
    from posescale.identify import looks_like

    words = looks_like({name: tuple(entry.shape) for name, entry in state.items()})
    return f" {words}." if words else ""


def translate(state: Mapping[str, Entry], key_map: Mapping[str, str]) -> dict[str, Entry]:
    """Rename official entries; a name of the map that ends in a dot stands for every entry below it."""

    def ours(name: str) -> str:
        prefixes = [key for key in key_map if key.endswith(".") and name.startswith(key)]
        longest = max(prefixes, key=len, default="")
        return key_map.get(name) or key_map.get(longest, "") + name.removeprefix(longest)

    return {ours(name): entry for name, entry in state.items()}


def _differences(own: Mapping[str, torch.Size], given: Mapping[str, torch.Size]) -> list[str]:
    """One phrase each for missing, unexpected and mis-shaped entries."""
    shapes = [f"{name} {tuple(given[name])} instead of {tuple(own[name])}"
              for name in own if name in given and given[name] != own[name]]  # fmt: skip
    groups = {
        "lacks": [name for name in own if name not in given],
        "has unexpected": [name for name in given if name not in own],
        "has other shapes for": shapes,
    }
    return [f"it {verb} {_some(names)}" for verb, names in groups.items() if names]


def _some(names: list[str]) -> str:
    count = f"{len(names)} {'entry' if len(names) == 1 else 'entries'}"
    return f"{count} ({', '.join(names[:_SHOWN])}{', ...' if len(names) > _SHOWN else ''})"
