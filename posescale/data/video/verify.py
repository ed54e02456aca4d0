"""Checks of a prepared video folder against what its index declares."""

from pathlib import Path

import numpy as np

from posescale.data.video.files import size_of
from posescale.data.video.prepared import RENDERED, Video, VideoData, VideoPart, check_part, digest_of, person_dtype
from posescale.errors import DataError


def verify(folder: Path | str) -> VideoData:
    """Read a prepared folder's tables, and the first image of every video; generated frames are read whole.

    Raises:
        DataError: the content is not that of the digest, a row contradicts its video, an image is missing, torn or of
            another size.
    """
    data = VideoData(folder)
    rendered = data.folder / RENDERED
    own = rendered if data.index.root == RENDERED else None
    found = _digest(data, own)
    if found != data.index.digest:
        raise DataError(
            f"{data.folder}: the content's digest is {found}, index.json declares {data.index.digest}; a file was "
            "changed or mixed up: prepare the dataset again"
        )
    row, start = person_dtype(len(data.skeleton.joints)), 0
    for video in data.index.videos:
        if video.start != start:
            raise DataError(f"{data.folder}/index.json: {video.name} starts at {video.start}, expected {start}")
        start += len(video.frames)
        check_part(VideoPart(video, _rows(data.people, video), _rows(data.detections, video)), row)
        _check_images(data, video)
    return data


def _digest(data: VideoData, own: Path | None) -> str:
    try:
        return digest_of(data.index, data.people, data.detections, own)
    except OSError as error:
        raise DataError(f"{error.filename}: cannot be read ({error.strerror}); prepare the dataset again") from error


def _rows(table: np.ndarray, video: Video) -> np.ndarray:
    first, last = np.searchsorted(table["frame"], [video.start, video.start + len(video.frames)])
    rows = table[first:last].copy()
    rows["frame"] -= video.start
    return rows


def _check_images(data: VideoData, video: Video) -> None:
    optional = data.index.settings.get("images") == "optional"
    absent = [frame.file for frame in video.frames if not (data.root / frame.file).is_file()]
    if absent and not optional:
        raise DataError(
            f"{data.root / absent[0]}: missing ({len(absent)} frames of {video.name} are); were they moved?"
        )
    if not absent and size_of(data.root / video.frames[0].file) != (video.width, video.height):
        raise DataError(
            f"{data.root / video.frames[0].file}: has {size_of(data.root / video.frames[0].file)} pixels, the index "
            f"declares {video.width} x {video.height}; were images resized?"
        )
