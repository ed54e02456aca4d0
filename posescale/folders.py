"""Folders that are written whole: beside their final place, then moved."""

import os
import shutil
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from posescale.errors import DataError


@contextmanager
def replaced_folder(folder: Path, own: Collection[str]) -> Iterator[Path]:
    """A new folder beside `folder` that takes its place when the block ends well; an earlier one is replaced.

    Args:
        folder: the final place.
        own: names that prepared data may hold; anything else found in `folder` keeps it from being replaced.

    Raises:
        DataError: `folder` holds something else than prepared data, or cannot be written. Whatever the block raises,
            nothing is left behind and an earlier folder stays as it was.
    """
    folder = Path(folder).resolve()
    partial = folder.with_name(f".{folder.name}.partial-{os.getpid()}")
    try:
        _check_place(folder, own)
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        yield partial
        swap_in(partial, folder)
    except OSError as error:
        what = f"{error.strerror or error} ({error.filename or folder})"
        raise DataError(f"{folder}: could not be written: {what}. Choose another folder, or make room") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _check_place(folder: Path, own: Collection[str]) -> None:
    """Refuse to replace anything but prepared data, whole or damaged: all that is in the folder would be deleted."""
    if folder.exists() and not folder.is_dir():
        raise DataError(f"{folder}: is a file; prepared data need a folder of their own")
    foreign = sorted(p.name for p in folder.iterdir() if p.name not in own) if folder.is_dir() else []
    if foreign:
        raise DataError(f"{folder}: holds {foreign[0]}, so it is not replaced; choose a folder of its own")


def swap_in(partial: Path, folder: Path) -> None:
    """Move `partial` to `folder`; an earlier one steps aside first, and comes back should that fail."""
    aside = partial.with_name(f"{partial.name}.old")
    if folder.exists():
        folder.rename(aside)
    try:
        partial.rename(folder)
    except BaseException:
        if aside.exists():
            aside.rename(folder)
        raise
    shutil.rmtree(aside, ignore_errors=True)
