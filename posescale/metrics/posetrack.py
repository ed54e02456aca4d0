"""PoseTrack's average precision, as the official poseval computes it (commit 4258a15), and PoseTrack21's variant."""

import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import shapely
from numpy.typing import NDArray

from posescale.metrics.posetrack_files import JOINTS, Frame, People, PoseTrackFileError, Rule, read_frames

log = logging.getLogger(__name__)

GROUPS = {
    "Head": ("head_top", "neck", "nose"),
    "Shou": ("right_shoulder", "left_shoulder"),
    "Elb": ("right_elbow", "left_elbow"),
    "Wri": ("right_wrist", "left_wrist"),
    "Hip": ("right_hip", "left_hip"),
    "Knee": ("right_knee", "left_knee"),
    "Ankl": ("right_ankle", "left_ankle"),
}
THRESHOLD = 0.5  # of the head's size


@dataclass(frozen=True)
class ApTable:
    """The result of a scoring, in percent.

    `ap`, `precision` and `recall` have the 15 joints by name, the groups `Head`, `Shou`, `Elb`, `Wri`, `Hip`, `Knee`,
    `Ankl` (means of their joints) and `total`, the mean over the joints that have a value.

    Attributes:
        frames: scored ones.
        annotated, predicted: joints of the ground truth and of the predictions, by joint name.
        tied: predicted joints that share their score with another of the same joint, by joint name.
        bounds: smallest and largest AP that an order of the tied ones can give, by joint name and `total`. The
            official order of equal scores is that of numpy's unstable sort, reversed.
    """

    ap: dict[str, float]
    precision: dict[str, float]
    recall: dict[str, float]
    frames: int
    annotated: dict[str, int]
    predicted: dict[str, int]
    tied: dict[str, int]
    bounds: dict[str, tuple[float, float]]

    @property
    def ties_matter(self) -> bool:
        """Whether another order of equal scores would give another AP."""
        return any(low < high for low, high in self.bounds.values())


@dataclass(frozen=True)
class Hits:
    """The predicted joints of some frames, by joint: their scores, and whether they hit; `annotated` (15,) joints."""

    scores: list[NDArray[np.float64]]
    hits: list[NDArray[np.bool_]]
    annotated: NDArray[np.int64]
    frames: int


def posetrack_ap(ground_truth_dir: Path | str, prediction_dir: Path | str, rule: Rule = "poseval") -> dict[str, float]:
    """Average precision in percent by joint (`right_ankle` ... `neck`, `nose`, `head_top`), by group and as `total`.

    `posetrack_table` gives counts, precision, recall and ties as well; ties that can move the AP are logged.

    Args:
        ground_truth_dir: folder of json files, one per video, of PoseTrack17 or PoseTrack18.
        prediction_dir: folder with a file of the same name for each of them, with the same frames.
        rule: `poseval`; or `posetrack21`, as that dataset's kit has it: joints count where x > 0 and y > 0, frames by
            `is_labeled`, and a joint that nobody has annotated gets 0.

    Raises:
        PoseTrackFileError: a file or frame is missing or malformed; in words.
    """
    table = posetrack_table(ground_truth_dir, prediction_dir, rule)
    if table.ties_matter:
        low, high = table.bounds["total"]
        log.warning("%d predicted joints share their scores; their order could give a total AP of %.4f to %.4f",
                    sum(table.tied.values()), low, high)  # fmt: skip
    return table.ap


def posetrack_table(ground_truth_dir: Path | str, prediction_dir: Path | str, rule: Rule = "poseval") -> ApTable:
    """`posetrack_ap` with everything that stands behind it.

    Raises:
        PoseTrackFileError: a file or frame is missing or malformed; in words.
    """
    return ap_table(
        [posetrack_hits(*pair, rule) for pair in _pairs(Path(ground_truth_dir), Path(prediction_dir))], rule
    )


def posetrack_by_sequence(
    ground_truth_dir: Path | str, prediction_dir: Path | str, rule: Rule = "poseval"
) -> dict[str, ApTable]:
    """`posetrack_table` of each video alone, by file name without `.json`.

    Raises:
        PoseTrackFileError: a file or frame is missing or malformed; in words.
    """
    pairs = _pairs(Path(ground_truth_dir), Path(prediction_dir))
    return {truth.stem: ap_table([posetrack_hits(truth, predicted, rule)], rule) for truth, predicted in pairs}


def _pairs(truths: Path, predictions: Path) -> Iterator[tuple[Path, Path]]:
    for folder in (truths, predictions):
        if not folder.is_dir():
            raise PoseTrackFileError(f"{folder}: no such folder; expected one with a json file per video")
    files = sorted(truths.glob("*.json"))
    if not files:
        raise PoseTrackFileError(f"{truths}: holds no json file; expected one per video")
    for truth in files:
        if not (predictions / truth.name).is_file():
            raise PoseTrackFileError(
                f"{predictions / truth.name}: no such file; every video of the ground truth needs predictions, an "
                "empty list of annotations if nobody was found"
            )
        yield truth, predictions / truth.name


def posetrack_hits(truth: Path, predicted: Path, rule: Rule = "poseval") -> Hits:
    """The hits of one video.

    Raises:
        PoseTrackFileError: a file is malformed, or the two do not hold the same frames.
    """
    pairs = _same_frames(truth, read_frames(truth, rule), predicted, read_frames(predicted, rule))
    scored = [_without_regions(*pair) for pair in pairs if _counts(pair[0], rule)]
    rows = [_assign(people, found, f"{truth}: frame {key}") for people, found, key in scored]
    scores, hits, joints = np.concatenate([np.zeros((3, 0)), *rows], axis=1)
    return Hits(
        scores=[scores[joints == joint] for joint in range(15)],
        hits=[hits[joints == joint].astype(bool) for joint in range(15)],
        annotated=sum((people.present.sum(axis=0) for people, _, _ in scored), np.zeros(15, int)),
        frames=len(scored),
    )


def _same_frames(
    truth: Path, expected: Sequence[Frame], predicted: Path, found: Sequence[Frame]
) -> Iterator[tuple[Frame, Frame]]:
    if len(found) != len(expected):
        known = {frame.key for frame in found}
        missing = [frame.key for frame in expected if frame.key not in known]
        which = f", {missing[0]} is missing" if missing else ""
        raise PoseTrackFileError(
            f"{predicted}: holds {len(found)} frames where {truth} has {len(expected)}{which}; list every frame of the "
            "video, also those in which nobody was found"
        )
    for number, (one, other) in enumerate(zip(expected, found, strict=True)):
        # PoseTrack17 names its frames, PoseTrack18 numbers them: between the two, the place alone decides.
        if one.key != other.key and one.key.isdigit() == other.key.isdigit():
            raise PoseTrackFileError(
                f"{predicted}: frame {number} is {other.key} where {truth} has {one.key}; list the same frames in the "
                "same order"
            )
        yield one, other


def _counts(truth: Frame, rule: Rule) -> bool:
    """Whether a frame is scored: somebody is annotated in it; for PoseTrack21, it says that it is labelled."""
    if rule == "posetrack21" and truth.labelled is None:
        raise PoseTrackFileError(
            f"frame {truth.key} of the ground truth has no `is_labeled`, which PoseTrack21 goes by"
        )
    return bool(truth.labelled) if rule == "posetrack21" else len(truth.people) > 0


def _without_regions(truth: Frame, found: Frame) -> tuple[People, People, str]:
    """People without the joints that lie inside one of the ground truth's regions."""
    polygons = [shapely.Polygon(region) for region in truth.regions if len(region) > 2]

    def outside(people: People) -> People:
        inside = np.zeros(people.present.shape, bool)
        for polygon in polygons:
            inside |= shapely.contains_xy(polygon, people.xy[..., 0], people.xy[..., 1])
        return replace(people, present=people.present & ~inside)

    return outside(truth.people), outside(found.people), truth.key


def _assign(truth: People, found: People, where: str) -> NDArray[np.float64]:
    """(3, n) score, hit (0 or 1) and joint of every predicted joint of one frame.

    Each prediction keeps the one person of the ground truth of whose joints it hits the largest share; each person
    takes the one prediction that kept it with the largest share; the first of equals; a share of 0 is no match.
    """
    match = np.zeros((len(found), 15), bool)
    if len(found) and len(truth):
        if np.isnan(truth.head[truth.present.any(axis=1)]).any():
            raise PoseTrackFileError(f"{where}: a person has no head box; distances are measured by it")
        hits = _near(truth, found)
        share = hits.sum(axis=2) / np.maximum(truth.present.sum(axis=1), 1)  # (P, G)
        kept = np.zeros_like(share)
        mine = share.argmax(axis=1)
        kept[np.arange(len(found)), mine] = share[np.arange(len(found)), mine]
        taken = kept.argmax(axis=0)  # (G,) prediction
        for person in np.flatnonzero(kept.max(axis=0) > 0):
            match[taken[person]] = hits[taken[person], person]
    _, joints = np.nonzero(found.present)
    return np.stack([found.scores[found.present], match[found.present], joints])


def _near(truth: People, found: People) -> NDArray[np.bool_]:
    """(P, G, 15) whether a joint that both have lies within the threshold."""
    distance = np.linalg.norm(found.xy[:, None] - truth.xy[None], axis=-1)
    with np.errstate(divide="ignore", invalid="ignore"):  # a head of no size: nothing is near
        near = distance / truth.head[None, :, None] <= THRESHOLD
    return near & found.present[:, None] & truth.present[None]


def ap_table(videos: Sequence[Hits], rule: Rule = "poseval") -> ApTable:
    """AP over all joints of several videos together."""
    annotated = sum((video.annotated for video in videos), np.zeros(15, int))
    scores = [np.concatenate([video.scores[joint] for video in videos]) for joint in range(15)]
    hits = [np.concatenate([video.hits[joint] for video in videos]) for joint in range(15)]
    # PoseTrack21's kit divides by 1 where nobody is annotated, so that such a joint gets 0, not NaN.
    positives = np.maximum(annotated, 1) if rule == "posetrack21" else annotated
    curves = np.array([_curve(*joint) for joint in zip(scores, hits, positives, strict=True)]).T
    limits = np.array([_limits(*joint) for joint in zip(scores, hits, positives, strict=True)]).T
    ap, precision, recall = (_grouped(100 * values) for values in curves)
    low, high = (_grouped(100 * values) for values in limits)
    names = (*JOINTS, "total")
    return ApTable(
        ap, precision, recall, sum(video.frames for video in videos), _named(annotated), _named(map(len, scores)),
        _named(map(_tied, scores)), {name: (low[name], high[name]) for name in names},
    )  # fmt: skip


def _curve(scores: NDArray, hits: NDArray, annotated: int) -> tuple[float, float, float]:
    """AP, precision and recall of all predictions of one joint; 0 without a prediction, NaN without an annotation."""
    return _area(hits[scores.argsort()[::-1]], annotated)


def _area(hits: NDArray, annotated: int) -> tuple[float, float, float]:
    """Area under the largest precision at each recall or above, for hits in order (all-points VOC); the curve's end."""
    if not len(hits):
        return 0.0, 0.0, 0.0
    found = hits.cumsum()
    precision = found / np.arange(1, len(hits) + 1)
    if not annotated:
        return np.nan, precision[-1], np.nan
    recall = found / annotated
    best = np.maximum.accumulate(precision[::-1])[::-1]
    return float(np.sum(np.diff(recall, prepend=0.0) * best)), precision[-1], recall[-1]


def _limits(scores: NDArray, hits: NDArray, annotated: int) -> tuple[float, float]:
    """AP when of equal scores all misses come first, and when all hits do."""
    worst, best = np.lexsort((hits, -scores)), np.lexsort((~hits, -scores))
    return _area(hits[worst], annotated)[0], _area(hits[best], annotated)[0]


def _tied(scores: NDArray) -> int:
    """Scores that occur more than once."""
    counts = np.unique(scores, return_counts=True)[1]
    return int(counts[counts > 1].sum())


def _named(values: Iterable[int]) -> dict[str, int]:
    return dict(zip(JOINTS, map(int, values), strict=True))


def _grouped(values: NDArray) -> dict[str, float]:
    """Joints by name, groups, and the total over joints that have a value."""
    joints = dict(zip(JOINTS, values.tolist(), strict=True))
    groups = {name: float(np.mean([joints[joint] for joint in members])) for name, members in GROUPS.items()}
    known = values[~np.isnan(values)]
    return joints | groups | {"total": float(known.mean()) if len(known) else float("nan")}
