"""Joints of a split's people, in the image: by a trained model from clips, or by a control from the annotations."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.utils.data import DataLoader, default_collate

from posescale.data.video.clips import VideoClips
from posescale.data.video.prepared import VideoData
from posescale.data.video.skeletons import STATES, UNKNOWN
from posescale.data.video.submission import prediction_dtype
from posescale.errors import DataError
from posescale.train.video.heatmaps import decode
from posescale.train.video.score import to_image

SEEN = (UNKNOWN, STATES.index("visible"), STATES.index("self_occluded"))  # states an oracle may interpolate from


class NotFinite(Exception):
    """A prediction holds NaN or infinity."""


@dataclass(frozen=True)
class Predictions:
    """What was predicted for N people.

    Attributes:
        row: (N,) their rows in the prepared `people` or `detections`.
        table: (N,) rows of `prediction_dtype`.
    """

    row: NDArray[np.int64]
    table: np.ndarray


@torch.inference_mode()
def predict(model: nn.Module, clips: VideoClips, batch: int, device: str) -> Predictions:
    """Joints read from heat maps, a joint's score being its map's maximum times the box's score.

    Args:
        model: in evaluation mode; (B, T, 3, H, W) to (B, K, H/4, W/4).
        clips: the samples.
        batch: clips per call.
        device: where the model is.

    Raises:
        NotFinite: names the sample.
    """
    table = np.zeros(len(clips), prediction_dtype(len(clips.data.skeleton.joints)))
    for part in DataLoader(clips, batch_size=batch, collate_fn=default_collate):
        maps = model(part["clip"].to(device)).float().cpu()
        if not torch.isfinite(maps).all():
            video, frame = clips.data.frame(int(part["frame"][0]))
            raise NotFinite(f"the prediction holds NaN or infinity, first near {frame.file} of {video.name}")
        joints, peaks = decode(maps)
        rows = part["sample"].numpy()
        table["frame"][rows], table["track"][rows] = part["frame"], part["track"].clamp(min=0)
        table["box"][rows], table["joints"][rows] = part["box"], to_image(joints, part["back"])
        table["scores"][rows] = peaks * part["score"][:, None]
    return Predictions(clips.row, table)


def predict_by_control(control: Any, data: VideoData, clips: VideoClips) -> Predictions:
    """What a control of `baselines/controls` says, in coordinates of each person's box; scores are 1.

    A control sees one person's track as one clip of consecutive frames: the true joints with 1 for those that can be
    seen in their own frame and 0 for the others; frames in which the person is not annotated hold zeros.

    Args:
        control: has `fit` and `predict`.
        data: the dataset; its training split is what the control learns from.
        clips: whom to predict, with ground-truth boxes; their images are not read.

    Raises:
        DataError: the training split has nobody with all joints annotated.
    """
    control.fit(_complete(data))
    people, wanted = data.people, set(clips.row.tolist())
    table = np.zeros(len(people), prediction_dtype(len(data.skeleton.joints)))
    for rows in _tracks(data, clips.row):
        place = people["frame"][rows] - people["frame"][rows[0]]
        poses, seen = _dense(people, rows, place)
        inputs = np.concatenate([poses, seen[..., None]], axis=-1)[None]
        answer = control.predict(inputs, poses[None], before=poses[None, 0])[0, place]
        table["joints"][rows] = _from_box(answer, people["box"][rows])
    table["frame"], table["track"], table["box"] = people["frame"], np.maximum(people["track"], 0), people["box"]
    table["scores"] = 1.0
    order = [row for row in range(len(people)) if row in wanted]
    return Predictions(np.array(order), table[order])


def _complete(data: VideoData) -> list[NDArray[np.float64]]:
    """(1, N, K, 2) all poses of the training split whose every joint is annotated, in coordinates of the box."""
    people = data.people[data.rows("train")]
    whole = people[people["annotated"].all(axis=1) & (people["box"][:, 2:] > 0).all(axis=1)]
    if not len(whole):
        raise DataError(
            f"{data.folder}: nobody in the training split has all joints annotated, so controls cannot learn"
        )
    return [_to_box(whole["joints"], whole["box"])[None]]


def _tracks(data: VideoData, rows: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """All annotated rows of each track that some of `rows` belong to, by frame; one video's tracks are its own."""
    video = data.video_of_frame[data.people["frame"]]
    keys = np.stack([video, data.people["track"]], axis=1)
    wanted = np.unique(keys[rows], axis=0)
    usable = (data.people["box"][:, 2:] > 0).all(axis=1)
    return [np.flatnonzero((keys == key).all(axis=1) & usable) for key in wanted]


def _dense(
    people: np.ndarray, rows: NDArray[np.int64], place: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(F, K, 2) poses and (F, K) what is seen, from the track's first frame to its last."""
    frames, joints = int(place[-1]) + 1, people["joints"].shape[1]
    poses, seen = np.zeros((frames, joints, 2)), np.zeros((frames, joints))
    poses[place] = _to_box(people["joints"][rows], people["box"][rows])
    seen[place] = (people["annotated"][rows] > 0) & np.isin(people["state"][rows], SEEN)
    return poses, seen


def _to_box(joints: NDArray, boxes: NDArray) -> NDArray[np.float64]:
    return (joints - _centre(boxes)) / boxes[:, None, 2:]


def _from_box(joints: NDArray, boxes: NDArray) -> NDArray[np.float64]:
    return joints * boxes[:, None, 2:] + _centre(boxes)


def _centre(boxes: NDArray) -> NDArray[np.float64]:
    return (boxes[:, :2] + boxes[:, 2:] / 2)[:, None]


Predictor = Callable[[VideoClips], Predictions]
