"""Scores of a split's predictions under a protocol: PCK by joint group and by state, AP, and PCK by sequence."""

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from posescale.data.prepared import Split
from posescale.data.video.prepared import VideoData
from posescale.data.video.skeletons import JHMDB, STATES
from posescale.data.video.submission import write_ground_truth, write_predictions
from posescale.errors import DataError
from posescale.metrics.jhmdb import GROUPS_JHMDB, jhmdb_pck
from posescale.metrics.posetrack import GROUPS, posetrack_table
from posescale.metrics.video_protocols import VideoProtocol
from posescale.records import Value
from posescale.train.video.predict import Predictions

HIDDEN = ("occluder", "blurred")  # states in which a joint cannot be found well in its own frame alone
Scores = dict[str, Any]


def scores(data: VideoData, split: Split, protocol: VideoProtocol, predicted: Predictions) -> Scores:
    """The fields `values`, `samples`, `labels` of a record, and `ties` of the AP, for predictions of a split.

    Values in percent, by joint group and over all (empty group):
        pck: joints found within the protocol's share of its size; for JHMDB the mean of seven groups, and
            `pck@0.1`, `pck@0.05`, `pck_15` (the mean of all fifteen joints);
        ap: PoseTrack's average precision.
    By visibility state (`group`), and over `hidden`, occluder and blurred together:
        pck_by_state, error_by_state (mean error, sizes), joints_by_state (how many).
    Samples, one entry a video: pck_by_sequence and joints_by_sequence; the same of each state, such as
    hidden_pck_by_sequence (NaN where the video has no such joint).

    Raises:
        DataError: a person lacks what the protocol measures by.
    """
    found: Scores = {"values": [], "samples": {}, "labels": {}, "ties": {}}
    if protocol.boxes == "gt":
        _add_pck(found, data, protocol, predicted)
    if protocol.ap:
        _add_ap(found, data, split, predicted.table)
    return found


def _add_pck(found: Scores, data: VideoData, protocol: VideoProtocol, predicted: Predictions) -> None:
    people = data.people[predicted.row]
    sizes = _sizes(data, protocol, people)
    errors = np.linalg.norm(predicted.table["joints"] - people["joints"], axis=-1) / sizes[:, None]
    errors = np.where(np.isnan(errors), np.inf, errors)  # a joint that is not predicted is not found
    counted = people["annotated"] > 0
    hits = errors <= protocol.share
    groups = {name: [data.skeleton.joints.index(j) for j in js] for name, js in joint_groups(data).items()}
    table = {name: _percent(hits[:, joints], counted[:, joints]) for name, joints in groups.items()}
    if data.skeleton is JHMDB:
        found["values"] += _jhmdb_values(predicted.table["joints"], people, protocol)
    else:
        found["values"] += [_share("pck", v, g) for g, v in {"": _percent(hits, counted), **table}.items()]
    found["values"] += _by_state(hits, errors, counted, people["state"])
    _add_sequences(found, data, predicted.table["frame"], hits, counted, people["state"])


def joint_groups(data: VideoData) -> Mapping[str, tuple[str, ...]]:
    """The groups that tables of a skeleton print."""
    if data.skeleton is JHMDB:
        return {name: tuple(JHMDB.joints[j] for j in joints) for name, joints in GROUPS_JHMDB.items()}
    return GROUPS


def _sizes(data: VideoData, protocol: VideoProtocol, people: np.ndarray) -> NDArray[np.float64]:
    if protocol.size == "head":
        sizes = 0.6 * np.linalg.norm(people["head"][:, 2:], axis=1)
    elif protocol.size == "person":
        sizes = people["box"][:, 2:].max(axis=1)
    else:
        ends = [data.skeleton.joints.index(name) for name in ("left_shoulder", "right_hip")]
        sizes = np.linalg.norm(people["joints"][:, ends[0]] - people["joints"][:, ends[1]], axis=1)
    if not np.isfinite(sizes).all():
        video, frame = data.frame(int(people["frame"][~np.isfinite(sizes)][0]))
        raise DataError(f"{frame.file}: a person has no {protocol.size}, which {protocol.id} measures errors by")
    return sizes


def _jhmdb_values(joints: NDArray, people: np.ndarray, protocol: VideoProtocol) -> list[Value]:
    tables = jhmdb_pck(joints, people["joints"], people["box"], protocol.size)
    values = []
    for share, table in tables.items():
        name = "pck" if share == protocol.share else f"pck@{share:g}"
        values += [_share(name, 100 * v, "" if g == "mean" else g) for g, v in table.items() if g != "mean_15"]
        values.append(_share(f"{name}_15", 100 * table["mean_15"]))
    return values


def _by_state(hits: NDArray, errors: NDArray, counted: NDArray, state: NDArray) -> list[Value]:
    values = []
    for name, where in _of_states(counted, state).items():
        known = errors[where & np.isfinite(errors)]
        values += [
            _share("pck_by_state", _percent(hits, where), name),
            Value(name="joints_by_state", value=int(where.sum()), unit="joints", group=name),
        ]
        if len(known):
            mean = float(known.mean())
            values.append(Value(name="error_by_state", value=mean, unit="sizes", better="lower", group=name))
    return values


def _add_sequences(
    found: Scores, data: VideoData, frame: NDArray, hits: NDArray, counted: NDArray, state: NDArray
) -> None:
    video = data.video_of_frame[frame]
    numbers = np.unique(video)
    names = [data.index.videos[number].name for number in numbers]
    samples = {}
    for kind, where in {"": counted, **_of_states(counted, state)}.items():
        stem = f"{kind}_" if kind else ""
        own = [where & (video == n)[:, None] for n in numbers]
        samples[f"{stem}pck_by_sequence"] = [_percent(hits, part) for part in own]
        samples[f"{stem}joints_by_sequence"] = [float(part.sum()) for part in own]
    found["samples"] |= samples
    found["labels"] |= dict.fromkeys(samples, names)


def _of_states(counted: NDArray, state: NDArray) -> dict[str, NDArray]:
    """Where annotated joints are in each state; `hidden` are occluder and blurred together. States without joints
    are left out.
    """
    chosen = {name: counted & (state == number) for number, name in enumerate(STATES)}
    chosen["hidden"] = np.any([chosen[name] for name in HIDDEN], axis=0)
    return {name: where for name, where in chosen.items() if where.any()}


def _add_ap(found: Scores, data: VideoData, split: Split, table: np.ndarray) -> None:
    """Poseval on files as they would be submitted."""
    with tempfile.TemporaryDirectory() as folder:
        truth, predicted = Path(folder) / "truth", Path(folder) / "predicted"
        write_ground_truth(truth, data, split)
        write_predictions(predicted, data, split, table)
        result = posetrack_table(truth, predicted)
    found["values"] += [_share("ap", result.ap["total"])] + [_share("ap", result.ap[group], group) for group in GROUPS]
    if result.ties_matter:
        low, high = result.bounds["total"]
        found["ties"] = {"joints": sum(result.tied.values()), "lowest_ap": low, "highest_ap": high}


def _percent(hits: NDArray, where: NDArray) -> float:
    return 100 * float(hits[where].mean()) if where.any() else float("nan")


def _share(name: str, value: float, group: str = "") -> Value:
    return Value(name=name, value=value, unit="%", better="higher", group=group)
