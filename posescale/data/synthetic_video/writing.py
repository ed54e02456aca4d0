"""One rendered video on disk, in PoseTrack18's own format and layout, with the states of the joints beside it.

images/<split>/<video>/000000.jpg
annotations/<split>/<video>.json          PoseTrack18: 17 slots, ears empty; joints outside the frame are left out
states/<split>/<video>.json               per frame and track: states, and positions of all joints, exact
boxes/<split>/<video>.json                what a person detector might have found
"""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from posescale.data.synthetic_video.render import Painted, paint
from posescale.data.synthetic_video.scenario import Scenario, draw_scenario
from posescale.data.synthetic_video.settings import Settings, Slot
from posescale.data.video.files import box_around
from posescale.data.video.skeletons import COCO_SLOTS, POSETRACK, SLOT_OF_JOINT, STATES
from posescale.data.video.submission import CATEGORY
from posescale.errors import DataError

OUT = STATES.index("out_of_frame")
FEWEST = 3  # joints in the frame, below which a person is not annotated


def is_whole(folder: Path, slot: Slot) -> bool:
    """Whether a video was written to its end: its annotations come last."""
    return (folder / "annotations" / slot.split / f"{slot.name}.json").is_file()


def write_video(folder: Path, slot: Slot, settings: Settings) -> None:
    """Render one video and write it; images first, beside their place, annotations last.

    Raises:
        DataError: an image cannot be encoded.
        OSError: the disk is full, or not writable.
    """
    scenario = draw_scenario(slot, settings)
    images = folder / "images" / slot.split / slot.name
    partial = images.with_name(f".{slot.name}.{os.getpid()}")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    shown, states, last = [], [], 0
    for n, painted in enumerate(paint(scenario, settings.width, settings.height, slot.rng(settings.seed, "noise"))):
        _write_image(partial / f"{n:06d}.jpg", painted, scenario.quality)
        last = last if scenario.repeated[n] else n
        shown.append(last)  # labels follow the picture: a repeated frame shows the moment of the one before
        states.append(painted.states)
    shutil.rmtree(images, ignore_errors=True)
    partial.rename(images)
    people = _people(scenario, shown, np.array(states))
    _write_json(folder / "states" / slot.split / f"{slot.name}.json", _states(people))
    _write_json(folder / "boxes" / slot.split / f"{slot.name}.json", _detections(slot, settings, people))
    _write_json(folder / "annotations" / slot.split / f"{slot.name}.json", _annotations(slot, settings, people))


def _write_image(path: Path, painted: Painted, quality: int) -> None:
    options = [cv2.IMWRITE_JPEG_QUALITY, quality]
    done, data = cv2.imencode(".jpg", cv2.cvtColor(painted.image, cv2.COLOR_RGB2BGR), options)
    if not done:
        raise DataError(f"{path}: OpenCV could not encode the frame")
    path.write_bytes(data.tobytes())


def _write_json(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    partial.write_text(json.dumps(content, allow_nan=False), encoding="utf-8")
    partial.rename(path)


def _people(scenario: Scenario, shown: list[int], states: np.ndarray) -> list[list[dict[str, Any]]]:
    """Per frame, the annotated people: track, joints (15, 2), state (15,), head box, box."""
    frames = []
    for n, moment in enumerate(shown):
        here = []
        for track, actor in enumerate(scenario.actors):
            state = states[n, track]
            joints = actor.joints[moment]
            if (state != OUT).sum() >= FEWEST:
                box = np.round(box_around(joints[state != OUT]), 3)
                head = np.round(actor.head_boxes[moment], 3)
                here.append({"track": track, "joints": joints, "state": state, "head": head, "box": box})
        frames.append(here)
    return frames


def _states(people: list[list[dict[str, Any]]]) -> dict[str, Any]:
    return {
        "states": list(STATES),
        "joints": list(POSETRACK.joints),
        "frames": [
            [
                {"track_id": p["track"], "state": p["state"].tolist(), "position": p["joints"].tolist()}
                for p in here
            ]
            for here in people
        ],
    }  # fmt: skip


def _annotations(slot: Slot, settings: Settings, people: list[list[dict[str, Any]]]) -> dict[str, Any]:
    images, annotations = [], []
    for n, here in enumerate(people):
        labelled = n % settings.label_every == 0
        images.append(
            {
                "file_name": f"images/{slot.split}/{slot.name}/{n:06d}.jpg", "id": slot.image_id(n),
                "frame_id": slot.image_id(n), "vid_id": f"{slot.number:06d}", "nframes": settings.frames,
                "is_labeled": labelled, "width": settings.width, "height": settings.height,
            }
        )  # fmt: skip
        for p in here if labelled else []:
            slots = np.zeros((len(COCO_SLOTS), 3))
            there = p["state"] != OUT
            slots[list(SLOT_OF_JOINT)] = np.concatenate([p["joints"], np.ones((len(there), 1))], 1) * there[:, None]
            annotations.append(
                {
                    "image_id": slot.image_id(n), "id": slot.image_id(n) * 100 + p["track"], "category_id": 1,
                    "track_id": p["track"], "bbox": p["box"].tolist(), "bbox_head": p["head"].tolist(),
                    "keypoints": slots.ravel().tolist(), "scores": [],
                }
            )  # fmt: skip
    return {"categories": [CATEGORY], "images": images, "annotations": annotations}


def _detections(slot: Slot, settings: Settings, people: list[list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Boxes as a detector finds them: shifted and scaled by some per cent, some missed, some on nobody."""
    rng = slot.rng(settings.seed, "detector")
    found = []
    for n, here in enumerate(people):
        boxes = []
        for p in here:
            seen = float((p["state"] == 0).mean())
            x, y, w, h = p["box"]
            shift, size = rng.normal(0, 0.04, 2) * [w, h], np.exp(rng.normal(0, 0.06, 2)) * [w, h]
            score = 1 - 0.6 * rng.random() * (1.1 - seen)
            if rng.random() > 0.02 + 0.25 * (seen < 0.25):
                boxes.append((x + w / 2 + shift[0] - size[0] / 2, y + h / 2 + shift[1] - size[1] / 2, *size, score))
        if rng.random() < 0.08:
            size = rng.uniform([0.05, 0.1], [0.3, 0.8]) * [settings.width, settings.height]
            boxes.append((*(rng.uniform(0, 0.7, 2) * [settings.width, settings.height]), *size, rng.uniform(0.05, 0.6)))
        found += [
            {
                "image_id": slot.image_id(n), "category_id": 1, "bbox": [round(float(v), 3) for v in box[:4]],
                "score": round(float(box[4]), 4),
            }
            for box in boxes
        ]  # fmt: skip
    return found
