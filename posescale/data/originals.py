"""Checks of a dataset's original files, without preparing anything."""

from pathlib import Path
from typing import Any

from posescale import lockfile
from posescale.data import catalog
from posescale.data.prepared import check_clip
from posescale.data.reading import Reading, source_folder
from posescale.data.video.reading import VideoReading


def verify_originals(id: str, source: Path | None = None, settings: dict[str, Any] | None = None) -> dict[str, Any]:
    """Read a dataset's original files as `catalog.prepare` would, and compare hashes that are known or noted.

    Returns:
        counts: hashes compared; sequences, frames and subjects, or videos, frames and people.

    Raises:
        UnavailableError: no such dataset, or its files are not here.
        ConsentError: its licence must be accepted first.
        DataError: names the file, what was expected, and what was found.
    """
    compared = check_hashes(id, source)
    reading = catalog.open_reading(id, source, settings)
    counts = _videos(reading, id) if isinstance(reading, VideoReading) else _clips(reading, id)
    return {"dataset": id, "hashes_compared": compared, **counts}


def _clips(reading: Reading, id: str) -> dict[str, int]:
    """Read and check every sequence of a lifting dataset."""
    sequences = frames = 0
    subjects: set[str] = set()
    declared: list[str] = []
    for clip in catalog.with_progress(reading.clips, reading.total, id):
        declared = declared or list(clip.arrays)
        frames += check_clip(clip, len(reading.skeleton.joints), declared)
        sequences += 1
        subjects.add(clip.subject)
    return {"sequences": sequences, "frames": frames, "subjects": len(subjects)}


def _videos(reading: VideoReading, id: str) -> dict[str, int]:
    """Read every video of a video dataset; the reader checks as it goes."""
    counts = {"videos": 0, "frames": 0, "people": 0}
    for part in catalog.with_progress(reading.videos, reading.total, id):
        counts["videos"] += 1
        counts["frames"] += len(part.video.frames)
        counts["people"] += len(part.people)
    return counts


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
