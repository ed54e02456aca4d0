"""From answers to errors: a protocol applied to what a model said, sequence by sequence, and the means over them."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from posescale.metrics.pck import threedhp_frames
from posescale.metrics.pose import mpjpe, mpjve, n_mpjpe, p_mpjpe
from posescale.metrics.protocols import Protocol
from posescale.records import Value
from posescale.stats import bootstrap_grouped

METRICS: dict[str, Callable[..., np.ndarray]] = {"mpjpe": mpjpe, "p_mpjpe": p_mpjpe, "n_mpjpe": n_mpjpe}
UNITS = dict.fromkeys(METRICS, "mm") | {"mpjve": "mm/frame", "pck": "%", "auc": "%"}


class NotFinite(Exception):
    """A prediction holds NaN or infinity."""


@dataclass(frozen=True)
class Answers:
    """What a model said of one sequence, W windows of K answered frames, in label units.

    Attributes:
        told: (W, K) frames of the sequence.
        plain: (W, K, J, 3) poses.
        mirrored: the same from the mirror image, mirrored back; None where it was not asked.
    """

    told: np.ndarray
    plain: np.ndarray
    mirrored: np.ndarray | None = None

    def poses(self, rules: Protocol) -> np.ndarray:
        """(W, K, J, 3) float64: averaged over the mirror image and with the root at zero, as the protocol says."""
        poses = self.plain.astype(np.float64)
        if rules.flip_average and self.mirrored is not None:
            poses = (poses + self.mirrored) / 2
        if rules.zero_root:
            poses[..., rules.root, :] = 0
        return poses


@dataclass(frozen=True)
class Score:
    """Errors of one sequence.

    Attributes:
        name, action: labels.
        performance: what all cameras that saw it share; empty where the data do not say.
        errors: by metric, one number per scored frame (mpjve: per pair of neighbours), in the units of UNITS.
    """

    name: str
    action: str
    errors: dict[str, np.ndarray]
    performance: str = ""

    @property
    def frames(self) -> int:
        """Scored frames."""
        return len(self.errors["mpjpe"])


def score(
    name: str, action: str, answers: Answers, counted: np.ndarray, target: np.ndarray, mm: np.ndarray, rules: Protocol,
    performance: str = "",
) -> Score:  # fmt: skip
    """The errors of one sequence under a protocol.

    Args:
        name, action: labels of the sequence.
        answers: what the model said.
        counted: (W, K) which answers are scored.
        target: (F, J, 3) true poses in label units, root-relative.
        mm: (F,) millimetres per label unit.
        rules: the protocol.
        performance: label that the sequences of all cameras share.

    Raises:
        NotFinite: a prediction that counts is not finite.
    """
    told, pred, true = scored_poses(name, answers, counted, target, mm, rules)
    errors = {metric: function(pred, true) for metric, function in METRICS.items()}
    if rules.measures == "3dhp":
        errors |= threedhp_frames(pred, true)
    if rules.overlap == "mean":
        window = np.broadcast_to(np.arange(len(counted))[:, None], counted.shape)[counted]
        errors = _mean_by_frame(errors, told, window)
    if rules.skip_exact and (kept := errors["mpjpe"] != 0).any():
        errors = {metric: values[kept] for metric, values in errors.items()}
    return Score(name, action, errors | {"mpjve": _velocity(told, pred, true)}, performance)


def scored_poses(
    name: str, answers: Answers, counted: np.ndarray, target: np.ndarray, mm: np.ndarray, rules: Protocol
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The answers that count: their frames (N,), and prediction and truth (N, J, 3) in mm. Arguments as in `score`.

    Raises:
        NotFinite: a prediction that counts is not finite.
    """
    told, poses = answers.told[counted], answers.poses(rules)[counted]
    if not np.isfinite(poses).all():
        frame = int(told[~np.isfinite(poses).all(axis=(1, 2))].min())
        raise NotFinite(f"the prediction for {name} holds NaN or infinity, first in frame {frame}")
    if rules.given_xy:
        poses[..., :2] = target[told][..., :2]
    scale = mm[told][:, None, None]
    return told, poses * scale, target[told] * scale


def _mean_by_frame(errors: dict[str, np.ndarray], told: np.ndarray, window: np.ndarray) -> dict[str, np.ndarray]:
    """One error per frame, the mean over windows; of a frame repeated inside one window the last answer counts."""
    pairs = np.stack([window, told], axis=1)
    _, last = np.unique(pairs[::-1], axis=0, return_index=True)
    chosen = len(told) - 1 - last
    frames, place = np.unique(told[chosen], return_inverse=True)
    count = np.bincount(place, minlength=len(frames))
    return {name: np.bincount(place, values[chosen], len(frames)) / count for name, values in errors.items()}


def _velocity(told: np.ndarray, pred: np.ndarray, true: np.ndarray) -> np.ndarray:
    """Velocity error of each pair of neighbouring frames; of a frame answered several times the last answer counts."""
    frames, last = np.unique(told[::-1], return_index=True)
    chosen = len(told) - 1 - last
    return mpjve(pred[chosen], true[chosen])[np.diff(frames) == 1]


def summary(scores: list[Score], rules: Protocol) -> list[Value]:
    """Per metric: the protocol's mean with a 95 % interval from redrawing whole performances, all cameras of one
    together (sequences, where the data do not say which belong together), then each action's mean.
    """
    together = [s.performance or s.name for s in scores]
    values = []
    for name in scores[0].errors:
        better = "higher" if UNITS[name] == "%" else "lower"
        means = np.array([_mean(s.errors[name]) for s in scores])
        counts = np.array([s.errors[name].size for s in scores], dtype=float)
        actions = [s.action for s in scores]
        groups = actions if rules.aggregation == "action_mean" else [""] * len(scores)
        by_action = {a: _mean(np.concatenate([s.errors[name] for s in scores if s.action == a])) for a in actions}
        if rules.aggregation == "action_mean":
            whole = float(np.mean(list(by_action.values())))
        else:
            whole = _mean(np.concatenate([s.errors[name] for s in scores]))
        interval = None
        if np.isfinite(means).all() and len(set(together)) > 1:
            interval = bootstrap_grouped(means, counts, groups, together)[1:]
        values.append(Value(name=name, value=whole, unit=UNITS[name], better=better, interval=interval))
        values += [Value(name=name, value=v, unit=UNITS[name], better=better, group=a) for a, v in by_action.items()]
    return values


def by_sequence(scores: list[Score]) -> dict[str, dict]:
    """Fields `samples` and `labels` of a record: means and frame counts of every sequence, and which of them are one
    performance seen by several cameras, where the data say that.
    """
    samples = {f"{name}_by_sequence": [_mean(s.errors[name]) for s in scores] for name in scores[0].errors}
    samples["frames_by_sequence"] = [float(s.frames) for s in scores]
    labels = {sample: [s.name for s in scores] for sample in samples} | {"actions": [s.action for s in scores]}
    if all(s.performance for s in scores):
        labels["performances"] = [s.performance for s in scores]
    return {"samples": samples, "labels": labels}


def _mean(errors: np.ndarray) -> float:
    """NaN where a frame's error is undefined, or where there is none (the velocity of a single frame)."""
    return float(errors.mean()) if errors.size else float("nan")
