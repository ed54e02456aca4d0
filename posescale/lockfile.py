"""`fetched.json`: what the files of a folder were when they were first used, so that a changed one is noticed.

Few of the field's files have published hashes. Where none is known, the first file seen sets it: its SHA-256, size,
source and date are written beside it, and from then on a file of that name must be the same.
"""

import json
from datetime import UTC, datetime
from hashlib import file_digest
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from posescale.errors import DataError
from posescale.files import write_whole

NAME = "fetched.json"


class Entry(BaseModel):
    """One file: when and from where it came."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    sha256: str
    bytes: int
    source: str
    date: str


class LockFile(BaseModel):
    """The whole of `fetched.json`; `files` by path relative to its folder, with forward slashes."""

    model_config = ConfigDict(extra="forbid")

    format: str = "posescale-fetched-1"
    files: dict[str, Entry] = {}


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, in hex."""
    with path.open("rb") as stream:
        return file_digest(stream, "sha256").hexdigest()


def read_lock(folder: Path) -> LockFile:
    """The lock file of a folder; an empty one where there is none.

    Raises:
        DataError: it is there and cannot be understood.
    """
    path = folder / NAME
    if not path.exists():
        return LockFile()
    try:
        return LockFile.model_validate(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, ValidationError) as error:
        raise DataError(
            f"{path}: not a list of fetched files: {error}. Move it away; hashes are then recorded anew"
        ) from error


def record(folder: Path, name: str, source: str, sha256: str | None = None) -> Entry:
    """Note what `folder / name` is now, replacing what was noted; the file is written whole or not at all."""
    path = folder / name
    entry = Entry(
        sha256=sha256 or sha256_of(path),
        bytes=path.stat().st_size,
        source=source,
        date=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    lock = read_lock(folder)
    lock.files[name] = entry
    lock.files = dict(sorted(lock.files.items()))
    write_whole(folder / NAME, lock.model_dump_json(indent=1) + "\n")
    return entry


def check(folder: Path, name: str, expected: str | None = None) -> str | None:
    """Compare a file with its known hash, or else with what `fetched.json` noted.

    Returns:
        the file's SHA-256 where it is as it must be; None where nothing is known of it yet.

    Raises:
        DataError: the file is another one.
    """
    noted = read_lock(folder).files.get(name)
    if expected is None and noted is None:
        return None
    path = folder / name
    found = sha256_of(path)
    if expected is not None and found != expected:
        raise DataError(
            f"{path}: its SHA-256 is {found}, the published file's is {expected}; "
            "it is torn or another file: move it away and get it again"
        )
    if noted is not None and found != noted.sha256:
        raise DataError(
            f"{path}: its SHA-256 is {found}, but it was {noted.sha256} when first used ({noted.date}, from "
            f"{noted.source}; noted in {folder / NAME}). Get the first file back; if the new one is meant, "
            f"remove its entry there"
        )
    return found
