"""Predictions and ground truth as folders of json in PoseTrack's own formats, one file per video.

These are the files that poseval, PoseTrack21's kit and the benchmark's servers read. Numbers are written unrounded:
equal scores would move AP.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np

from posescale.data.prepared import Split
from posescale.data.video.files import read_json
from posescale.data.video.posetrack18 import RawFile, slots_of
from posescale.data.video.prepared import Frame, Video, VideoData
from posescale.data.video.skeletons import COCO_EDGES, COCO_SLOTS, POSETRACK, SLOT_OF_JOINT, STATES
from posescale.errors import DataError
from posescale.folders import replaced_folder

CATEGORY = {
    "supercategory": "person", "id": 1, "name": "person", "keypoints": list(COCO_SLOTS),
    "skeleton": [list(edge) for edge in COCO_EDGES],
}  # fmt: skip


def prediction_dtype(joints: int = len(POSETRACK.joints)) -> np.dtype:
    """A row per predicted person: frame (number over all videos), box (4,) x, y, width, height, joints (K, 2) in
    pixels of the image, NaN where none is predicted, scores (K,), track (0 where nobody tracks).
    """
    return np.dtype(
        [
            ("frame", "<i4"), ("track", "<i4"), ("box", "<f8", (4,)), ("joints", "<f8", (joints, 2)),
            ("scores", "<f8", (joints,)),
        ]
    )  # fmt: skip


def write_predictions(
    folder: Path | str, data: VideoData, split: Split, predictions: np.ndarray, form: str = "posetrack18"
) -> list[Path]:
    """Write predictions of a split: every video and every frame, also those in which nobody was found.

    Args:
        folder: to write, whole; earlier files of the same videos are replaced.
        data: the dataset.
        split: whose videos are written.
        predictions: rows of `prediction_dtype`, in any order.
        form: `posetrack18` (PoseTrack21 reads the same), or `posetrack17`.

    Raises:
        DataError: the skeleton is not PoseTrack's, a row names a frame outside the split, a score or a box is NaN,
            the folder holds something else.
    """
    if data.skeleton is not POSETRACK or form not in ("posetrack18", "posetrack17"):
        raise DataError(f"{data.skeleton.id} predictions in form {form!r}: expected posetrack15, posetrack18 or 17")
    if not np.isfinite(predictions["scores"][np.isfinite(predictions["joints"]).all(-1)]).all():
        raise DataError("predictions: a joint that is predicted has a score that is NaN or infinite")
    videos = data.videos(split)
    inside = np.isin(predictions["frame"], [v.start + n for v in videos for n in range(len(v.frames))])
    if not inside.all():
        frame = int(predictions["frame"][~inside][0])
        raise DataError(f"predictions: frame {frame} is not in split {split!r}; predict and write one split at a time")
    document = _document18 if form == "posetrack18" else _document17
    return _write(Path(folder), {v.name: document(v, _of(v, predictions), _predicted) for v in videos})


def write_ground_truth(folder: Path | str, data: VideoData, split: Split, form: str = "posetrack18") -> list[Path]:
    """Write the annotations of a split as PoseTrack would, for scoring a dataset from its prepared folder.

    Raises:
        DataError: the skeleton is not PoseTrack's, or the folder holds something else.
    """
    if data.skeleton is not POSETRACK or form not in ("posetrack18", "posetrack17"):
        raise DataError(f"{data.skeleton.id} annotations in form {form!r}: expected posetrack15, posetrack18 or 17")
    document = _document18 if form == "posetrack18" else _document17
    return _write(Path(folder), {v.name: document(v, _of(v, data.people), _annotated) for v in data.videos(split)})


def read_predictions(folder: Path | str, data: VideoData, split: Split) -> np.ndarray:
    """The rows of `prediction_dtype` behind a folder that `write_predictions` wrote in PoseTrack18's form.

    Raises:
        DataError: a video of the split has no file, or a file is damaged or names an image that is not in its video.
    """
    rows: list[tuple] = []
    for video in data.videos(split):
        path = Path(folder) / f"{video.name}.json"
        raw = read_json(path, RawFile)
        slots = slots_of(raw, path, POSETRACK)
        place = {frame.id: video.start + n for n, frame in enumerate(video.frames)}
        for n, person in enumerate(raw.annotations):
            if person.image_id not in place or 3 * len(person.scores or []) != len(person.keypoints):
                raise DataError(
                    f"{path}: annotations[{n}]: expected an image of {video.name}, and a score per keypoint"
                )
            points = np.array(person.keypoints).reshape(-1, 3)[slots]
            joints = np.where(points[:, 2:] > 0, points[:, :2], np.nan)
            scores = np.array(person.scores)[slots]
            rows.append((place[person.image_id], person.track_id, person.bbox or [0] * 4, joints, scores))
    return np.array(rows, dtype=prediction_dtype())


def _of(video: Video, table: np.ndarray) -> list[tuple[int, np.void]]:
    """(place in the video, row) of a table's rows of one video, by frame."""
    mine = table[(table["frame"] >= video.start) & (table["frame"] < video.start + len(video.frames))]
    return [(int(row["frame"]) - video.start, row) for row in mine[np.argsort(mine["frame"], kind="stable")]]


def _predicted(row: np.void) -> tuple[np.ndarray, np.ndarray, list[float] | None, dict[str, Any]]:
    """Joints, flags, scores and further entries of a prediction."""
    there = np.isfinite(row["joints"]).all(-1)
    return np.where(there[:, None], row["joints"], 0), there.astype(float), row["scores"].tolist(), {}


def _annotated(row: np.void) -> tuple[np.ndarray, np.ndarray, list[float] | None, dict[str, Any]]:
    there = row["annotated"] > 0
    seen = there & (row["state"] != STATES.index("occluded"))
    extra = {} if np.isnan(row["head"]).any() else {"bbox_head": row["head"].tolist()}
    return np.where(there[:, None], row["joints"], 0), seen.astype(float), None, extra


def _document18(video: Video, rows: list[tuple[int, np.void]], entries: Any) -> dict[str, Any]:
    images, annotations = [_image18(video, frame) for frame in video.frames], []
    count: dict[int, int] = {}
    for place, row in rows:
        joints, flags, scores, extra = entries(row)
        slots = np.zeros((len(COCO_SLOTS), 3))
        slots[list(SLOT_OF_JOINT)] = np.concatenate([joints, flags[:, None]], axis=1)
        if scores is not None:
            all_scores = np.zeros(len(COCO_SLOTS))
            all_scores[list(SLOT_OF_JOINT)] = scores
            extra = extra | {"scores": all_scores.tolist()}
        image = video.frames[place].id
        annotations.append(
            {
                "image_id": image, "id": image * 100 + count.setdefault(place, 0), "category_id": 1,
                "track_id": int(row["track"]), "bbox": row["box"].tolist(),
                "keypoints": slots.ravel().tolist(), **extra,
            }
        )  # fmt: skip
        count[place] += 1
    return {"categories": [CATEGORY], "images": images, "annotations": annotations}


def _image18(video: Video, frame: Frame) -> dict[str, Any]:
    entry = {
        "file_name": frame.file, "id": frame.id, "frame_id": frame.id, "vid_id": video.name.split("_")[0],
        "nframes": len(video.frames), "is_labeled": frame.labelled, "width": video.width, "height": video.height,
    }  # fmt: skip
    if frame.ignore:
        entry |= {f"ignore_regions_{axis}": [[p[n] for p in polygon] for polygon in frame.ignore]
                  for n, axis in enumerate("xy")}  # fmt: skip
    return entry


def _document17(video: Video, rows: list[tuple[int, np.void]], entries: Any) -> dict[str, Any]:
    people: dict[int, list[dict[str, Any]]] = {}
    for place, row in rows:
        joints, flags, scores, extra = entries(row)
        x, y, w, h = extra.get("bbox_head", row["box"].tolist())
        people.setdefault(place, []).append(
            {
                "x1": [x], "y1": [y], "x2": [x + w], "y2": [y + h], "track_id": [int(row["track"])],
                "annopoints": [{"point": _points17(joints, flags, scores, row)}],
            }
        )  # fmt: skip
    return {"annolist": [_image17(frame, people.get(n, [])) for n, frame in enumerate(video.frames)]}


def _points17(joints: np.ndarray, flags: np.ndarray, scores: list[float] | None, row: np.void) -> list[dict[str, Any]]:
    there = flags > 0 if scores is not None else row["annotated"] > 0
    return [
        {"id": [k], "x": [joints[k, 0].item()], "y": [joints[k, 1].item()]}
        | ({"score": [scores[k]]} if scores is not None else {"is_visible": [int(flags[k])]})
        for k in np.flatnonzero(there).tolist()
    ]


def _image17(frame: Frame, people: list[dict[str, Any]]) -> dict[str, Any]:
    regions = [{"point": [{"x": [x], "y": [y]} for x, y in polygon]} for polygon in frame.ignore]
    entry = {
        "image": [{"name": frame.file}],
        "imgnum": [frame.number],
        "annorect": people,
        "is_labeled": [int(frame.labelled)],
    }
    return entry | ({"ignore_regions": regions} if regions else {})


def _write(folder: Path, documents: dict[str, dict[str, Any]]) -> list[Path]:
    names = [f"{name}.json" for name in documents]
    with replaced_folder(folder, names) as partial:
        for name, document in zip(names, documents.values()):
            (partial / name).write_text(json.dumps(document, allow_nan=False), encoding="utf-8")
    return [folder / name for name in names]
