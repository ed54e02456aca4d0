"""Prepared 2D-video data: a folder with an index and two tables, the same for every dataset. Images are not copied.

    index.json      VideoIndex: skeleton, videos with their frames (file, size, labelled, ignore regions), splits
    people.npy      structured rows, one per annotated person and frame: see `person_dtype`
    detections.npy  structured rows, one per detected box: `DETECTION`
    rendered/       only for generated datasets: annotations and frames, in PoseTrack18's own layout

Rows name their frame by its number over all videos, one after another (`Video.start` + place in `Video.frames`), and
are sorted by it. Boxes are x, y, width, height in pixels; coordinates are pixels of the whole image, pixel centres at
integers.
"""

import hashlib
import json
import shutil
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from posescale.data.prepared import Split
from posescale.data.video.skeletons import SKELETONS, STATES, UNKNOWN, Skeleton
from posescale.errors import DataError
from posescale.folders import replaced_folder

TABLES = ("people", "detections")
FILES = ("index.json", *(f"{name}.npy" for name in TABLES))
RENDERED = "rendered"
DETECTION = np.dtype([("frame", "<i4"), ("box", "<f8", (4,)), ("score", "<f8")])


def person_dtype(joints: int) -> np.dtype:
    """A row of `people.npy` for K joints.

    frame, track: numbers; box (4,): x, y, width, height; head (4,): the head's box, NaN where the dataset has none;
    joints (K, 2): pixels, 0 where not annotated; annotated (K,): 1 or 0; state (K,): index into
    `skeletons.STATES` or UNKNOWN. A joint outside the image may carry a position without being annotated.
    """
    return np.dtype(
        [
            ("frame", "<i4"), ("track", "<i4"), ("box", "<f8", (4,)), ("head", "<f8", (4,)),
            ("joints", "<f8", (joints, 2)), ("annotated", "u1", (joints,)), ("state", "i1", (joints,)),
        ]
    )  # fmt: skip


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Frame(_Strict):
    """One image of a video."""

    file: str  # below the index's `root`
    number: int  # in the file's name; a gap means that frames are missing
    id: int  # the dataset's own image id
    labelled: bool  # whether the annotators went over it; un-labelled frames serve as neighbours only
    ignore: list[list[tuple[float, float]]] = []  # polygons in which nothing is scored


class Video(_Strict):
    """One video: frames `start` to `start + len(frames)` of the dataset, in order of their numbers."""

    name: str
    split: Split
    action: str = ""
    width: int  # pixels
    height: int
    start: int
    frames: list[Frame]


class VideoIndex(_Strict):
    """`index.json` of a prepared folder."""

    format: Literal["posescale-video-1"] = "posescale-video-1"
    dataset: str
    protocol: str  # id of the default protocol
    settings: dict[str, Any]  # what the reader was asked for
    fps: float
    skeleton: str  # id of one of `skeletons.SKELETONS`
    reported: Split  # the split papers report: `val` for PoseTrack
    root: str  # folder of the images: absolute, or relative to the prepared folder
    checks: dict[str, float] = {}  # what the reader measured of its own data
    acknowledgement: str = ""
    digest: str  # over the tables and the list of frames; the frames' bytes too, where they are in this folder
    videos: list[Video]


@dataclass(frozen=True)
class VideoPart:
    """What a reader yields for one video: `people` and `detections` number frames within the video.

    `video.start` is set when the dataset is written.
    """

    video: Video
    people: np.ndarray
    detections: np.ndarray = field(default_factory=lambda: np.zeros(0, DETECTION))


class VideoData:
    """A prepared folder, opened read-only.

    Attributes:
        index: its VideoIndex.
        people, detections: structured arrays in memory (a few hundred bytes a row), as in the module's text.
        root: folder that the frames' `file` is below.

    Raises:
        DataError: a file is missing, torn, or not of the declared form.
    """

    def __init__(self, folder: Path | str, root: Path | str | None = None) -> None:
        """Open a folder; `root` says where the images are now, if they were moved since."""
        self.folder = Path(folder)
        self.index = _read_index(self.folder / "index.json")
        self.skeleton: Skeleton = SKELETONS[self.index.skeleton]
        self.root = Path(root) if root is not None else self.folder / self.index.root
        self.people = _open_table(self.folder / "people.npy", person_dtype(len(self.skeleton.joints)))
        self.detections = _open_table(self.folder / "detections.npy", DETECTION)

    def videos(self, split: Split) -> list[Video]:
        """The videos of one split, in index order."""
        return [video for video in self.index.videos if video.split == split]

    @cached_property
    def video_of_frame(self) -> np.ndarray:
        """`(F,)` number in `index.videos` of each frame of the dataset."""
        return np.repeat(np.arange(len(self.index.videos)), [len(video.frames) for video in self.index.videos])

    def frame(self, number: int) -> tuple[Video, Frame]:
        """The frame of this number over all videos, and its video."""
        video = self.index.videos[int(self.video_of_frame[number])]
        return video, video.frames[int(number) - video.start]

    def rows(self, split: Split, table: Literal["people", "detections"] = "people") -> np.ndarray:
        """`(rows,)` numbers of the rows of `people` or `detections` that belong to a split, ascending."""
        wanted = np.array([video.split == split for video in self.index.videos], dtype=bool)
        return np.flatnonzero(wanted[self.video_of_frame[getattr(self, table)["frame"]]])


def write_video_data(
    folder: Path, parts: Iterable[VideoPart], *, rendered: Path | None = None, **index_fields: Any
) -> VideoIndex:
    """Write a prepared folder atomically: beside its final place, then moved; an earlier one is replaced.

    Args:
        folder: the final place.
        parts: videos in order; each is checked before it is written.
        rendered: a folder of generated frames, on the same disk, that becomes `rendered/`; `root` must then be that.
        **index_fields: the fields of VideoIndex other than `digest` and `videos`.

    Raises:
        DataError: a part is mis-shaped, holds NaN, or names frames it has not; there is none; `folder` holds
            something else than prepared data, or cannot be written. An earlier folder stays as it was.
    """
    with replaced_folder(Path(folder), {*FILES, RENDERED}) as partial:
        index, people, detections = _collected(parts, index_fields)
        digest = digest_of(index, people, detections, rendered)
        index = index.model_copy(update={"digest": digest})
        np.save(partial / "people.npy", people)
        np.save(partial / "detections.npy", detections)
        (partial / "index.json").write_text(index.model_dump_json() + "\n", encoding="utf-8")
        if rendered is not None:
            shutil.move(rendered, partial / RENDERED)
    return index


def digest_of(index: VideoIndex, people: np.ndarray, detections: np.ndarray, images: Path | None) -> str:
    """Twelve hex digits over the videos, the tables, and the frames' bytes where `images` says they are ours."""
    digest = hashlib.sha256(json.dumps([v.model_dump() for v in index.videos], sort_keys=True).encode())
    digest.update(people.tobytes())
    digest.update(detections.tobytes())
    if images is not None:
        for frame in (frame for video in index.videos for frame in video.frames):
            digest.update((images / frame.file).read_bytes())
    return digest.hexdigest()[:12]


def _collected(parts: Iterable[VideoPart], index_fields: dict[str, Any]) -> tuple[VideoIndex, np.ndarray, np.ndarray]:
    row = person_dtype(len(SKELETONS[index_fields["skeleton"]].joints))
    videos: list[Video] = []
    tables: dict[str, list[np.ndarray]] = {name: [] for name in TABLES}
    start = 0
    for part in parts:
        check_part(part, row)
        videos.append(part.video.model_copy(update={"start": start}))
        for name, rows in tables.items():
            table = getattr(part, name)
            table = table[np.argsort(table["frame"], kind="stable")].copy()
            table["frame"] += start
            rows.append(table)
        start += len(part.video.frames)
    if not videos:
        raise DataError(f"{index_fields['dataset']}: the reader gave no video at all; is the source folder empty?")
    double = sorted({v.name for v in videos if sum(v.name == w.name and v.split == w.split for w in videos) > 1})
    if double:
        raise DataError(f"{index_fields['dataset']}: video {double[0]} is there twice in one split; keep one copy")
    index = VideoIndex(digest="", videos=videos, **index_fields)
    return index, np.concatenate(tables["people"]), np.concatenate(tables["detections"])


def check_part(part: VideoPart, row: np.dtype) -> None:
    """Refuse a video whose rows cannot be what its dataset says, naming video, frame and reason."""
    video, people, detections = part.video, part.people, part.detections
    if people.dtype != row or detections.dtype != DETECTION:
        raise DataError(f"{video.name}: rows of type {people.dtype}, expected {row}")
    if not video.frames or video.width < 1 or video.height < 1:
        raise DataError(f"{video.name}: {len(video.frames)} frames of {video.width} x {video.height} pixels")
    numbers = [frame.number for frame in video.frames]
    if numbers != sorted(set(numbers)):
        raise DataError(f"{video.name}: its frames are not in order, or one is there twice")
    for table, columns in ((people, ("box", "joints")), (detections, ("box", "score"))):
        if len(table) and not (0 <= table["frame"].min() and table["frame"].max() < len(video.frames)):
            raise DataError(f"{video.name}: a row names frame {table['frame'].max()} of {len(video.frames)}")
        for column in columns:
            values = table[column].reshape(len(table), int(np.prod(table.dtype[column].shape, dtype=int)))
            if not np.isfinite(values).all():
                where = _name_of(video, table, int(np.flatnonzero(~np.isfinite(values).all(1))[0]))
                raise DataError(f"{where}: {column} holds NaN or infinity; repair the source")
        if (table["box"][:, 2:] < 0).any() or (not (table["box"][:, 2:] > 0).all() and table is detections):
            bad = int(np.flatnonzero((table["box"][:, 2:] <= 0).any(1))[0])
            raise DataError(f"{_name_of(video, table, bad)}: a box of width or height below 0: {table['box'][bad]}")
    if ((people["state"] < UNKNOWN) | (people["state"] >= len(STATES))).any() or (people["annotated"] > 1).any():
        raise DataError(f"{video.name}: a joint's state is not an index into {STATES}")


def _name_of(video: Video, table: np.ndarray, row: int) -> str:
    return f"{video.frames[int(table['frame'][row])].file}: row {row} of {video.name}"


def _read_index(path: Path) -> VideoIndex:
    if not path.exists():
        how = f"`posescale data prepare NAME --out {path.parent}`"
        raise DataError(f"{path}: missing; prepare the dataset first ({how})")
    try:
        index = VideoIndex.model_validate_json(path.read_text(encoding="utf-8"))
    except (ValueError, ValidationError) as error:
        raise DataError(f"{path}: not an index of prepared video data: {error}. Prepare the dataset again") from error
    if index.skeleton not in SKELETONS:
        raise DataError(f"{path}: skeleton {index.skeleton!r}, expected one of {', '.join(SKELETONS)}")
    return index


def _open_table(path: Path, row: np.dtype) -> np.ndarray:
    try:
        table = np.load(path, allow_pickle=False)
    except FileNotFoundError as error:
        raise DataError(f"{path}: missing although index.json is there; prepare the dataset again") from error
    except (ValueError, OSError, EOFError) as error:
        raise DataError(f"{path}: torn or not an array ({error}); prepare the dataset again") from error
    if table.dtype != row or table.ndim != 1:
        raise DataError(f"{path}: found {table.dtype} {table.shape}, expected rows of {row}; prepare the dataset again")
    table.flags.writeable = False
    return table
