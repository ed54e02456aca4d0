"""Prepared data on demand, kept in the user's cache: for verbs that are given a dataset's name instead of a folder."""

import hashlib
import json
import logging
from pathlib import Path
from typing import Any

import platformdirs

from posescale import lockfile
from posescale.cards import folder_digest
from posescale.data import catalog
from posescale.data.opening import open_prepared
from posescale.data.reading import source_folder
from posescale.errors import DataError

log = logging.getLogger(__name__)


def prepared(id: str, source: Path | str | None = None, settings: dict[str, Any] | None = None) -> Path:
    """The folder of a dataset prepared with these settings; prepared now if it is not there.

    The folder's name is a digest of the settings, of the reader's code, and of names, sizes and times of the source
    files: what changed is prepared again.

    Raises:
        UnavailableError, ConfigError, DataError: as `posescale.data.catalog.prepare`.
    """
    source = Path(source).expanduser() if source is not None else None
    catalog.dataset_card(id)
    key = json.dumps([settings or {}, folder_digest(catalog.FOLDER), _files(id, source)], sort_keys=True)
    name = f"{id}-{hashlib.sha256(key.encode()).hexdigest()[:12]}"
    folder = Path(platformdirs.user_cache_dir("posescale")) / "prepared" / name
    try:
        open_prepared(folder)
        log.info("%s: prepared earlier in %s", id, folder)
    except DataError:
        log.info("%s: preparing into %s", id, folder)
        catalog.prepare(id, folder, source, settings)
    return folder


def _files(id: str, source: Path | None) -> list[tuple[str, int, int]]:
    """Name, size and time of a dataset's files: those that its reader names, else what is usual for its task."""
    folder = source_folder(id, source)
    if folder is None or not folder.is_dir():
        return []
    usual = _annotations if catalog.dataset_card(id).task == "video" else _visible
    named = getattr(catalog.reader(id), "sources", usual)
    stats = [(path, path.stat()) for path in sorted(named(folder))]
    return [(str(path.resolve()), stat.st_size, stat.st_mtime_ns) for path, stat in stats]


def _visible(folder: Path) -> list[Path]:
    """The files right in a folder, without notes on them."""
    return [path for path in folder.iterdir() if path.is_file() and path.name[0] != "." and path.name != lockfile.NAME]


def _annotations(folder: Path) -> list[Path]:
    """What says where people are, wherever it lies; the frames themselves are too many to look at."""
    return [path for path in folder.rglob("*") if path.suffix in (".json", ".mat", ".txt") and path.name[0] != "."]
