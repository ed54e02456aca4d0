"""The datasets there are, what each needs, and the one way to prepare them."""

import difflib
import importlib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError
from rich.console import Console
from rich.progress import track

from posescale import consent
from posescale.data.card import DatasetCard
from posescale.data.prepared import Clip, DatasetIndex, write_prepared
from posescale.data.reading import Reading
from posescale.data.video.prepared import RENDERED, VideoIndex, VideoPart, write_video_data
from posescale.data.video.reading import VideoReading
from posescale.errors import ConfigError, UnavailableError

FOLDER = Path(__file__).resolve().parent
Piece = TypeVar("Piece", Clip, VideoPart)


@cache
def _cards() -> dict[str, DatasetCard]:
    cards: dict[str, DatasetCard] = {}
    for path in sorted(FOLDER.glob("*/card.yaml")):
        try:
            card = DatasetCard.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
        except (yaml.YAMLError, ValidationError) as error:
            raise ConfigError(f"{path}: not a dataset card: {error}") from error
        if card.id != path.parent.name:
            raise ConfigError(f"{path}: id is {card.id!r}, but the folder is called {path.parent.name!r}")
        cards[card.id] = card
    return cards


def datasets() -> list[str]:
    """Ids of all datasets."""
    return sorted(_cards())


def dataset_card(id: str) -> DatasetCard:
    """The card of a dataset.

    Raises:
        UnavailableError: there is none of this id, with the nearest ones.
    """
    cards = _cards()
    if id not in cards:
        near = difflib.get_close_matches(id, cards, n=3) or sorted(cards)
        raise UnavailableError(f"no dataset is called {id!r}; did you mean {', '.join(near)}? (`posescale datasets`)")
    return cards[id]


def reader(id: str) -> ModuleType:
    """The reader module of a dataset (see posescale.data.reading)."""
    return importlib.import_module(f"posescale.data.{dataset_card(id).id}.reader")


def missing(id: str, source: Path | None = None, settings: dict[str, Any] | None = None) -> str:
    """What keeps a dataset from being prepared on this machine (with these settings); empty when nothing does."""
    module = reader(id)
    if settings is None or not hasattr(module, "missing_for"):
        return module.missing(source)
    return module.missing_for(source, check_settings(id, settings))


def prepare(
    id: str, out: Path | str, source: Path | str | None = None, settings: dict[str, Any] | None = None
) -> DatasetIndex | VideoIndex:
    """Prepare a dataset: read its source piece by piece and write a folder in its task's prepared format.

    Args:
        id: of the dataset.
        out: folder to write; earlier prepared data there are replaced, once the new are complete.
        source: folder of the original files; POSESCALE_DATA says where when not given.
        settings: the reader's settings, by name.

    Raises:
        UnavailableError: unknown dataset, or its files are not on this machine.
        ConsentError: its licence must be accepted first (posescale.consent).
        ConfigError: an unknown setting, or a value out of range.
        DataError: a damaged source file, or `out` cannot be written.
    """
    card, module, chosen = dataset_card(id), reader(id), check_settings(id, settings)
    out = Path(out).expanduser()
    fields = {"dataset": id, "protocol": card.protocols[0], "settings": chosen.model_dump()}
    if hasattr(module, "render"):  # generated frames are made beside `out` and move into it
        rendered = module.render(out, chosen)
        reading = module.read(rendered, chosen)
        fields |= reading.index_fields() | {"root": RENDERED}
        return write_video_data(out, with_progress(reading.videos, reading.total, id), rendered=rendered, **fields)
    reading = open_reading(id, source, settings)
    fields |= reading.index_fields()
    if isinstance(reading, VideoReading):
        return write_video_data(out, with_progress(reading.videos, reading.total, id), **fields)
    return write_prepared(out, with_progress(reading.clips, reading.total, id), **fields)


def open_reading(
    id: str, source: Path | str | None = None, settings: dict[str, Any] | None = None
) -> Reading | VideoReading:
    """Open a dataset's original files for reading; arguments and errors as in `prepare`."""
    card, module = dataset_card(id), reader(id)
    chosen = check_settings(id, settings)
    source = Path(source).expanduser() if source is not None else None
    lacking = module.missing(source)
    if lacking:
        raise UnavailableError(f"{id}: {lacking}. How to get it: {' '.join(card.obtain.split())}")
    consent.require(id, card.terms)
    return module.read(source, chosen)


def check_settings(id: str, values: dict[str, Any] | None = None) -> BaseModel:
    """A reader's settings, complete.

    Raises:
        ConfigError: an unknown setting, or a value out of range.
    """
    module = reader(id)
    try:
        return module.Settings.model_validate(values or {})
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        known = ", ".join(module.Settings.model_fields)
        raise ConfigError(f"settings of {id}: {wrong}. There are: {known}") from error


def with_progress(pieces: Iterator[Piece], total: int, title: str) -> Iterator[Piece]:
    """The pieces, with a progress bar on stderr where that is a terminal."""
    console = Console(stderr=True)
    return iter(track(pieces, title, total, console=console, disable=not console.is_terminal))
