"""What PoseTrack's scoring reads of a file: per frame the people, their joints and heads, and the regions to ignore.

Formats of PoseTrack17 (`annolist`) and PoseTrack18/21 (`images`, `annotations`), read as poseval reads them.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from posescale.errors import DataError

# poseval's order, its ids 0..14.
JOINTS = (
    "right_ankle", "right_knee", "right_hip", "left_hip", "left_knee", "left_ankle", "right_wrist", "right_elbow",
    "right_shoulder", "left_shoulder", "left_elbow", "left_wrist", "neck", "nose", "head_top",
)  # fmt: skip
# The order of a PoseTrack18 file that does not name its joints; ears are placeholders and never scored.
KEYPOINTS_18 = (
    "nose", "head_bottom", "head_top", "left_ear", "right_ear", "left_shoulder", "right_shoulder", "left_elbow",
    "right_elbow", "left_wrist", "right_wrist", "left_hip", "right_hip", "left_knee", "right_knee", "left_ankle",
    "right_ankle",
)  # fmt: skip
MISSING_SCORE = -9999.0  # poseval's score of a joint without one

Rule = Literal["poseval", "posetrack21"]
_Row = tuple[NDArray[np.float64], NDArray[np.bool_], NDArray[np.float64], float]


class PoseTrackFileError(DataError, ValueError):
    """A file that cannot be scored."""


@dataclass(frozen=True)
class People:
    """P people of one frame.

    Attributes:
        xy: (P, 15, 2) pixels, in the order of `JOINTS`.
        present: (P, 15) which joints are there.
        scores: (P, 15), -9999 where a file gives none.
        head: (P,) 0.6 times the diagonal of the head's box, NaN where there is no box.
    """

    xy: NDArray[np.float64]
    present: NDArray[np.bool_]
    scores: NDArray[np.float64]
    head: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.xy)


@dataclass(frozen=True)
class Frame:
    """One frame of a file.

    Attributes:
        key: what tells it from the file's other frames: image id (PoseTrack18), file name (PoseTrack17).
        people: in the file's order, those without a single joint too.
        regions: polygons (n, 2) that are not scored.
        labelled: the file's `is_labeled`; None where it does not say.
    """

    key: str
    people: People
    regions: tuple[NDArray[np.float64], ...]
    labelled: bool | None


def read_frames(path: Path, rule: Rule = "poseval") -> list[Frame]:
    """The frames of one file, in its order.

    Args:
        path: a json file of PoseTrack17, 18 or 21.
        rule: which joints of a PoseTrack18 file count as present: under `poseval` all but those stored as 0, 0 with
            visibility 0; under `posetrack21` those with x > 0 and y > 0.

    Raises:
        PoseTrackFileError: names the file, the place in it, what was expected and what was found.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise PoseTrackFileError(f"{path}: cannot be read as JSON ({error}); is it complete?") from error
    keys = set(content) if isinstance(content, Mapping) else set()
    if "annolist" not in keys and not {"images", "annotations"} <= keys:
        raise PoseTrackFileError(
            f"{path}: expected the keys `annolist` (PoseTrack17) or `images` and `annotations` (PoseTrack18), found "
            f"{', '.join(sorted(keys)) or type(content).__name__}"
        )
    read = _frames_17 if "annolist" in content else _frames_18
    try:
        frames = list(read(content, rule))
    except (KeyError, IndexError, TypeError, ValueError) as error:
        reason = f"no {error}" if isinstance(error, (KeyError, IndexError)) else str(error)
        raise PoseTrackFileError(f"{path}: {reason}") from error
    if len({frame.key for frame in frames}) < len(frames):
        twice = next(f.key for i, f in enumerate(frames) if any(f.key == g.key for g in frames[:i]))
        raise PoseTrackFileError(f"{path}: frame {twice} is listed twice")
    return frames


def _frames_18(content: Mapping[str, Any], rule: Rule) -> Iterator[Frame]:
    names = _joint_names(content)
    folders = {str(Path(image["file_name"]).parent) for image in content["images"]}
    if len(folders) > 1:
        raise ValueError(f"expected one video per file, found {len(folders)}, such as {', '.join(sorted(folders)[:2])}")
    by_image: dict[Any, list[Mapping[str, Any]]] = {image["id"]: [] for image in content["images"]}
    for person in content["annotations"]:
        if person["image_id"] not in by_image:
            raise ValueError(f"annotation {person.get('id')} is of image {person['image_id']}, which is not listed")
        by_image[person["image_id"]].append(person)
    for image in content["images"]:
        people = [
            _person_18(person, names, f"image {image['id']}, annotation {person.get('id')}", rule)
            for person in by_image[image["id"]]
        ]
        regions = zip(image.get("ignore_regions_x") or [], image.get("ignore_regions_y") or [], strict=True)
        polygons = tuple(np.array([x, y], dtype=float).T.reshape(-1, 2) for x, y in regions)
        labelled = image.get("is_labeled")
        yield Frame(str(image["id"]), _people(people), polygons, None if labelled is None else bool(labelled))


def _joint_names(content: Mapping[str, Any]) -> list[str]:
    """Names of a file's keypoints; a file without `categories` has the usual order."""
    categories = content.get("categories")
    names = list(categories[0]["keypoints"]) if categories else list(KEYPOINTS_18)
    names = ["neck" if name == "head_bottom" else name for name in names]
    if missing := [joint for joint in JOINTS if joint not in names]:
        raise ValueError(f"the keypoints of its category lack {', '.join(missing)}; found {', '.join(names)}")
    return names


def _person_18(person: Mapping[str, Any], names: list[str], where: str, rule: Rule) -> _Row:
    points = np.asarray(person["keypoints"], dtype=float)
    scores = np.asarray(person.get("scores") or [MISSING_SCORE] * len(names), dtype=float)
    if points.shape != (3 * len(names),) or scores.shape != (len(names),):
        raise ValueError(
            f"{where}: expected {3 * len(names)} numbers in `keypoints` and {len(names)} in `scores` (or none), found "
            f"{points.size} and {scores.size}"
        )
    order = [names.index(joint) for joint in JOINTS]
    points = points.reshape(-1, 3)[order]
    present = (points != 0).any(axis=1)  # stored as 0, 0 with visibility 0: not annotated
    head = person.get("bbox_head")
    size = np.nan if head is None else _head_size(head[0], head[1], head[0] + head[2], head[1] + head[3])
    return _checked(points[:, :2], present, scores[order], size, where, rule)


def _frames_17(content: Mapping[str, Any], rule: Rule) -> Iterator[Frame]:
    for frame in content["annolist"]:
        name = Path(frame["image"][0]["name"]).name
        people = [_person_17(rect, f"frame {name}, person {n}", rule) for n, rect in enumerate(frame["annorect"])]
        regions = tuple(
            np.array([(p["x"][0], p["y"][0]) for p in region["point"]], dtype=float).reshape(-1, 2)
            for region in frame.get("ignore_regions") or []
        )
        labelled = frame.get("is_labeled")
        yield Frame(name, _people(people), regions, None if labelled is None else bool(labelled[0]))


def _person_17(rect: Mapping[str, Any], where: str, rule: Rule) -> _Row:
    xy, present, scores = np.zeros((15, 2)), np.zeros(15, bool), np.full(15, MISSING_SCORE)
    points = rect["annopoints"][0].get("point", []) if rect.get("annopoints") else []
    for point in points:
        joint = point["id"][0] if point.get("id") else None
        if joint is None or not 0 <= joint < 15 or present[joint]:  # of two points with one id, the first counts
            continue
        xy[joint], present[joint] = (point["x"][0], point["y"][0]), True
        scores[joint] = point["score"][0] if "score" in point else MISSING_SCORE
    size = _head_size(*(rect[side][0] for side in ("x1", "y1", "x2", "y2"))) if "x1" in rect else np.nan
    return _checked(xy, present, scores, size, where, rule)


def _head_size(x1: float, y1: float, x2: float, y2: float) -> float:
    return 0.6 * float(np.linalg.norm(np.subtract([x2, y2], [x1, y1])))


def _checked(xy: NDArray, present: NDArray, scores: NDArray, head: float, where: str, rule: Rule) -> _Row:
    if rule == "posetrack21":
        present = (xy > 0).all(axis=1)
    wrong = present & ~(np.isfinite(xy).all(axis=1) & np.isfinite(scores))
    if wrong.any():
        raise ValueError(f"{where}: {JOINTS[int(np.argmax(wrong))]} has a coordinate or score that is no finite number")
    return xy, present, scores, head


def _people(rows: list[_Row]) -> People:
    if not rows:
        return People(np.zeros((0, 15, 2)), np.zeros((0, 15), bool), np.zeros((0, 15)), np.zeros(0))
    xy, present, scores, head = zip(*rows, strict=True)
    return People(np.stack(xy), np.stack(present), np.stack(scores), np.array(head, dtype=float))
