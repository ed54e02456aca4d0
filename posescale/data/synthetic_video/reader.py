"""The embedded 2D-video dataset: rendered from a seed into PoseTrack18's layout, then read as PoseTrack18 is."""

import hashlib
import json
import multiprocessing
import os
import shutil
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import track

from posescale import lifeline
from posescale.cards import folder_digest
from posescale.data.synthetic_video.oracle import checks
from posescale.data.synthetic_video.settings import Settings, Slot
from posescale.data.synthetic_video.writing import is_whole, write_video
from posescale.data.video.files import Finite, Raw, read_json
from posescale.data.video.posetrack18 import with_states
from posescale.data.video.posetrack_layout import Layout, PoseTrackSettings, read_splits
from posescale.data.video.prepared import VideoPart
from posescale.data.video.reading import VideoReading
from posescale.errors import ConfigError, DataError

__all__ = ["Settings", "missing", "read", "render"]

LAYOUT = Layout("synthetic_video", "annotations", detections="../boxes/{}.json")


class RawPerson(Raw):
    """One person in one frame of a states file."""

    track_id: int
    state: list[int]
    position: list[tuple[Finite, Finite]]


class RawStates(Raw):
    """`states/<split>/<video>.json`."""

    states: list[str]
    joints: list[str]
    frames: list[list[RawPerson]]


def missing(source: Path | None) -> str:
    """Never anything: the data are generated."""
    return ""


def render(out: Path, settings: Settings) -> Path:
    """Render all videos beside `out`; a rendering that was interrupted goes on where it stopped.

    Returns:
        the folder of the rendering, to be read and then moved into the prepared data.

    Raises:
        ConfigError: no video was asked for.
        UnavailableError: CMU motion was asked for and is not here.
        DataError: the folder cannot be written.
    """
    slots = settings.slots()
    if not slots:
        raise ConfigError("synthetic_video: train, val and test are all 0; ask for at least one video")
    out = out.resolve()
    folder = out.with_name(f".{out.name}.rendering-{_recipe(settings)}")
    try:
        for stale in out.parent.glob(f".{out.name}.rendering-*"):
            if stale != folder:
                shutil.rmtree(stale, ignore_errors=True)
        folder.mkdir(parents=True, exist_ok=True)
        _render_all(folder, [slot for slot in slots if not is_whole(folder, slot)], settings)
        _join_boxes(folder, slots)
    except OSError as error:
        what = f"{error.strerror or error} ({error.filename or folder})"
        raise DataError(f"{folder}: could not be written: {what}. Choose another folder, or make room") from error
    return folder


def _recipe(settings: Settings) -> str:
    """Twelve hex digits over what decides the pixels: another recipe never continues this one's rendering."""
    content = json.dumps(settings.model_dump(exclude={"workers"}), sort_keys=True)
    code = folder_digest(Path(__file__).parent) + folder_digest(Path(__file__).parent.parent / "synthetic_motion")
    return hashlib.sha256((content + code).encode()).hexdigest()[:12]


def _render_all(folder: Path, slots: list[Slot], settings: Settings) -> None:
    console = Console(stderr=True)
    workers = min(settings.workers or os.cpu_count() or 1, len(slots))

    def shown(done: Iterator) -> Iterator:
        return track(done, "rendering", len(slots), console=console, disable=not console.is_terminal)

    if workers <= 1:
        for slot in shown(iter(slots)):
            write_video(folder, slot, settings)
        return
    context = multiprocessing.get_context("spawn")  # OpenCV and torch have threads that a fork would break
    with ProcessPoolExecutor(workers, context, lifeline.watch, (os.getpid(),)) as pool:
        jobs = [pool.submit(write_video, folder, slot, settings) for slot in slots]
        try:
            for job in shown(as_completed(jobs)):
                job.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _join_boxes(folder: Path, slots: list[Slot]) -> None:
    """One detection file per split, as mmpose's is."""
    for split in {slot.split for slot in slots}:
        boxes: list[dict] = []
        for slot in slots:
            if slot.split == split:
                boxes += json.loads((folder / "boxes" / split / f"{slot.name}.json").read_text(encoding="utf-8"))
        (folder / "boxes" / f"{split}.json").write_text(json.dumps(boxes), encoding="utf-8")


def read(source: Path | None, settings: Settings) -> VideoReading:
    """Read a rendering through PoseTrack18's reader, with the joints' states from their side files.

    Raises:
        DataError: no folder was given, or a file in it is damaged.
    """
    if source is None:
        raise DataError("synthetic_video: give the folder of a rendering (`posescale data prepare` renders one)")
    plain = read_splits(LAYOUT, source, PoseTrackSettings())
    parts = [_stated(part, source) for part in plain.videos]  # a few hundred bytes a person: they fit in memory
    return VideoReading(
        total=plain.total, videos=iter(parts), root=plain.root, skeleton=plain.skeleton, reported="test",
        fps=settings.fps, checks=checks(_tracks(parts)),
    )  # fmt: skip


def _stated(part: VideoPart, source: Path) -> VideoPart:
    path = source / "states" / part.video.split / f"{part.video.name}.json"
    raw = read_json(path, RawStates)
    states = {
        (number, person.track_id): (np.array(person.state), np.array(person.position))
        for number, here in enumerate(raw.frames)
        for person in here
    }
    return with_states(part, states, str(path))


def _tracks(parts: list[VideoPart]) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Runs of consecutive frames of one person: joints, states, head sizes."""
    tracks = []
    for part in parts:
        for person in np.unique(part.people["track"]):
            rows = part.people[part.people["track"] == person]
            for run in np.split(rows, np.flatnonzero(np.diff(rows["frame"]) != 1) + 1):
                tracks.append((run["joints"], run["state"], 0.6 * np.hypot(run["head"][:, 2], run["head"][:, 3])))
    return tracks
