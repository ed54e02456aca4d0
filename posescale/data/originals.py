"""Checks of a dataset's original files, without preparing anything."""

from pathlib import Path
from typing import Any

from posescale import lockfile
from posescale.data import catalog
from posescale.data.prepared import check_clip
from posescale.data.reading import source_folder


def verify_originals(id: str, source: Path | None = None, settings: dict[str, Any] | None = None) -> dict[str, Any]:
    """Read a dataset's original files as `catalog.prepare` would, and compare hashes that are known or noted.

    Returns:
        counts: hashes compared, sequences, frames, subjects.

    Raises:
        UnavailableError: no such dataset, or its files are not here.
        ConsentError: its licence must be accepted first.
        DataError: names the file, what was expected, and what was found.
    """
    compared = check_hashes(id, source)
    sequences = frames = 0
    subjects: set[str] = set()
    declared: list[str] = []
    reading = catalog.open_reading(id, source, settings)
    for clip in catalog.with_progress(reading, id):
        declared = declared or list(clip.arrays)
        frames += check_clip(clip, len(reading.skeleton.joints), declared)
        sequences += 1
        subjects.add(clip.subject)
    return {
        "dataset": id, "hashes_compared": compared, "sequences": sequences, "frames": frames,
        "subjects": len(subjects),
    }  # fmt: skip


def check_hashes(id: str, source: Path | None = None) -> int:
    """Compare a dataset's original files with their published hashes, or those noted when they were first used.

    Returns:
        how many files were compared.

    Raises:
        DataError: a file is not the one that it was, or should be.
    """
    card, folder = catalog.dataset_card(id), source_folder(id, source)
    if folder is None or not folder.is_dir():
        return 0
    known = {name: file.sha256 for name, file in (card.fetch.files if card.fetch else {}).items()}
    noted = lockfile.read_lock(folder).files
    compared = [name for name in {**known, **noted} if (folder / name).is_file()]
    return sum(lockfile.check(folder, name, known.get(name)) is not None for name in compared)
