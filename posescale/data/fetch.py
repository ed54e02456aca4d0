"""Fetching a dataset from its own site: politely, resumably, every file checked and noted."""

import fcntl
import fnmatch
import os
import shutil
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from posescale import lockfile
from posescale.data.card import DatasetCard, RemoteFile
from posescale.data.catalog import dataset_card
from posescale.data.download import PATIENT, Policy, download, new_session
from posescale.errors import FetchError, UnavailableError


def folder_for(id: str, to: Path | str | None) -> Path:
    """Where a dataset is fetched to: `to`, else its folder below POSESCALE_DATA.

    Raises:
        UnavailableError: neither says where.
    """
    if to is not None:
        return Path(to).expanduser()
    root = os.environ.get("POSESCALE_DATA")
    if not root:
        raise UnavailableError(f"{id}: no folder to fetch to: set POSESCALE_DATA, or give --to")
    return Path(root).expanduser() / id


def fetch(
    id: str,
    to: Path | str | None = None,
    policy: Policy = PATIENT,
    pause: Callable[[float], None] = time.sleep,
) -> list[Path]:
    """Download what is not here yet, one file after another. The licence must have been accepted before.

    Args:
        id: of the dataset.
        to: its folder; a folder of its name below POSESCALE_DATA when not given.
        policy: patience with the server.
        pause: waits between files; for tests.

    Returns:
        the files that were brought, archives replaced by what was taken out of them.

    Raises:
        UnavailableError: this dataset cannot be fetched by a program, with the steps for a person; or no folder.
        FetchError: no room, no permission, or what the server did; files brought so far stay.
        DataError: a file that is here is not the one that it was, or should be.
    """
    card, folder = dataset_card(id), folder_for(id, to)
    if card.fetch is None:
        raise UnavailableError(f"{id} cannot be fetched by a program. {' '.join(card.obtain.split())}")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _alone(folder):
            return _fetch_all(card, folder, policy, pause)
    except OSError as error:
        raise FetchError(f"{error.filename or folder}: cannot be written: {error.strerror or error}") from error


def _fetch_all(card: DatasetCard, folder: Path, policy: Policy, pause: Callable[[float], None]) -> list[Path]:
    wanted = [name for name, file in card.fetch.files.items() if not _is_here(folder, name, file)]
    _check_room(card, folder, wanted)
    noted = lockfile.read_lock(folder).files
    brought: list[Path] = []
    with new_session() as session, _bars() as bars:
        whole = bars.add_task(f"{card.id}: {len(wanted)} files", total=len(wanted), unit="files")
        for number, name in enumerate(wanted):
            if number:
                pause(card.fetch.delay)
            bar = bars.add_task(name, total=card.fetch.files[name].bytes)
            told = lambda here, total, bar=bar: bars.update(bar, completed=here, total=total)  # noqa: E731
            url = card.fetch.base + name
            expected = card.fetch.files[name].sha256 or (noted[name].sha256 if name in noted else None)
            found = download(session, url, folder / name, expected, policy, told)
            lockfile.record(folder, name, url, found)
            brought += _taken_out(folder, name, url, card.fetch.files[name].extract) or [folder / name]
            bars.remove_task(bar)
            bars.advance(whole)
    return brought


def _is_here(folder: Path, name: str, file: RemoteFile) -> bool:
    """Whether a file, or all that was taken out of it, is here and as it should be; one without a note gets it now."""
    if file.extract and not (folder / name).exists():
        return _members_are_here(folder, name)
    if not (folder / name).exists():
        return False
    if lockfile.check(folder, name, file.sha256) is None or name not in lockfile.read_lock(folder).files:
        lockfile.record(folder, name, "a file that was already here")
    if file.extract:  # an archive that a person put here, or whose unpacking was cut short
        _taken_out(folder, name, f"{name} in this folder", file.extract)
    return True


def _members_are_here(folder: Path, archive: str) -> bool:
    members = [name for name, entry in lockfile.read_lock(folder).files.items() if entry.source.endswith(f"!{archive}")]
    return bool(members) and all((folder / name).exists() and lockfile.check(folder, name) for name in members)


def _check_room(card: DatasetCard, folder: Path, wanted: list[str]) -> None:
    """Refuse before the first byte when the disk cannot hold what the card says is needed."""
    share = len(wanted) / len(card.fetch.files)
    sizes = [card.fetch.files[name].bytes for name in wanted]
    needed = sum(sizes) if all(sizes) else int(card.fetch.disk * share)
    free = shutil.disk_usage(folder).free
    if wanted and needed > free:
        raise FetchError(f"{folder}: {card.id} needs about {needed / 1e9:.1f} GB, but only {free / 1e9:.1f} GB "
                         "are free; make room or give another folder with --to")  # fmt: skip


def _taken_out(folder: Path, name: str, url: str, pattern: str) -> list[Path]:
    """Take the members that match out of an archive, note them, and remove the archive."""
    if not pattern:
        return []
    archive, taken = folder / name, []
    try:
        with zipfile.ZipFile(archive) as opened:
            for member in [m for m in opened.infolist() if fnmatch.fnmatch(m.filename, pattern) and not m.is_dir()]:
                taken.append(_take(opened, member, folder))
    except (zipfile.BadZipFile, EOFError, NotImplementedError) as error:
        raise FetchError(
            f"{archive}: not a zip archive that can be read: {error}; remove it and fetch again"
        ) from error
    if not taken:
        raise FetchError(f"{archive}: holds nothing like {pattern}; the archive has changed, unpack it by hand")
    for path in taken:
        lockfile.record(folder, path.relative_to(folder).as_posix(), f"{url}!{name}")
    archive.unlink()
    return taken


def _take(opened: zipfile.ZipFile, member: zipfile.ZipInfo, folder: Path) -> Path:
    place = PurePosixPath(member.filename)
    if place.is_absolute() or ".." in place.parts:
        raise FetchError(
            f"{opened.filename}: member {member.filename} would lie outside the folder; it is not unpacked"
        )
    target = folder / place
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.partial")
    with opened.open(member) as source, temporary.open("wb") as sink:
        shutil.copyfileobj(source, sink, 1 << 20)
    temporary.replace(target)
    return target


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Hold the folder until done; the kernel lets go when the process dies."""
    with (folder / ".fetch.lock").open("w") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise FetchError(f"{folder}: another fetch is at work in this folder; wait for it or stop it") from error
        yield


def _bars() -> Progress:
    """Progress bars on stderr, where that is a terminal."""
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    return Progress(*columns, console=console, disable=not console.is_terminal)
