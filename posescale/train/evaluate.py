"""Scoring lifting models and controls under a protocol, every frame of a split once."""

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import nn

from posescale import ops
from posescale.cards import component
from posescale.checkpoints import load_checkpoint, read_weights_meta
from posescale.data.prepared import PreparedData, Split
from posescale.data.windows import ClipWindows
from posescale.errors import ConfigError
from posescale.metrics import mpjpe, mpjve, n_mpjpe, p_mpjpe
from posescale.metrics.protocols import Protocol
from posescale.metrics.protocols import protocol as find_protocol
from posescale.models import create_model, network_module
from posescale.provenance import fingerprint
from posescale.records import Record, Value
from posescale.train.predict import predict
from posescale.train.results import check_device, weights_digest

log = logging.getLogger(__name__)
MM = 1000.0  # prepared poses are in metres
METRICS: dict[str, Callable[..., np.ndarray]] = {
    "mpjpe": mpjpe, "p_mpjpe": p_mpjpe, "n_mpjpe": n_mpjpe, "mpjve": mpjve,
}  # fmt: skip
UNITS = {"mpjpe": "mm", "p_mpjpe": "mm", "n_mpjpe": "mm", "mpjve": "mm/frame"}


@dataclass(frozen=True)
class Sequence:
    """One sequence to score.

    Attributes:
        name, action: labels.
        inputs: (F, J, 3) x, y in screen units and confidence.
        targets: (F, J, 3) metres, camera space, root-relative.
    """

    name: str
    action: str
    inputs: np.ndarray
    targets: np.ndarray


@dataclass(frozen=True)
class Score:
    """Errors of one sequence.

    Attributes:
        name, action: labels.
        errors: by metric, (F,) or (F - 1,), in mm.
    """

    name: str
    action: str
    errors: dict[str, np.ndarray]

    @property
    def frames(self) -> int:
        """F."""
        return len(self.errors["mpjpe"])


class _NotFinite(Exception):
    """A prediction holds NaN or infinity."""


def sequences(data: PreparedData, split: Split, input_2d: Literal["detections", "exact"]) -> Iterator[Sequence]:
    """The sequences of a split, one at a time."""
    frames = ClipWindows(data, split, 1, 1, input_2d)
    for number, sequence in enumerate(frames.sequences):
        inputs, targets = frames.__getitems__(np.flatnonzero(frames.sequence == number))
        yield Sequence(sequence.name, sequence.action, inputs[:, 0].numpy(), targets[:, 0].numpy())


def evaluate(
    name: str,
    data_dir: Path | str,
    frames: int | None = None,
    weights: Path | str | None = None,
    protocol: str | None = None,
    split: Split = "test",
    seed: int | None = None,
    selection: str | None = None,
    *,
    batch: int = 32,
    threads: int = 1,
    device: str = "cpu",
    study: str = "",
) -> Record:
    """Score a model or a control on a split.

    Args:
        name: variant id of a lifting model, or ground_truth, mean_pose, copy_previous.
        data_dir: prepared data.
        frames: T of the windows; the T that the weights were trained with, or the variant's, when not given.
        weights: a file of `posescale train` or an official checkpoint; a control takes none, a model must have one.
        protocol: id of a protocol; the data's own when not given.
        split: which sequences.
        seed, selection: noted in the record; taken from the weights file when it knows them.
        batch: windows per call; bounds the memory.
        threads: torch's.
        device: cpu or cuda.
        study: noted in the record.

    Returns:
        a record of kind `accuracy`. Values, in mm: for each metric the mean over frames of each action (`group`) and
        the mean over actions (empty group). Samples: means and frame counts by sequence, labelled. Status `crashed`
        when a prediction holds NaN or infinity, `oom` when memory ran out.

    Raises:
        ConfigError: an argument is out of range, weights are missing or given to a control.
        CheckpointError: the weights do not fit.
        DataError: the data cannot be read or the split is empty.
        UnavailableError: no such model or device.
    """
    _positive(frames=frames, batch=batch, threads=threads)
    data = PreparedData(data_dir)
    rules = find_protocol(protocol or data.index.protocol)
    subject = _Subject(name, frames, weights, data, rules, batch, device)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with ops.ran() as backends:
            scores, status, reason = _score(subject, data, split, rules)
    finally:
        torch.set_num_threads(before)
    meta = subject.meta
    return Record(
        kind="accuracy", variant=name, study=study, dataset=data.index.dataset, protocol=rules.id,
        data_digest=data.index.digest, batch=batch, device=device, threads=threads, backends=dict(backends),
        seed=meta.get("seed") if seed is None else seed, selection=selection or meta.get("selection"), status=status,
        reason=reason, options={"split": split, "epoch": meta.get("epoch"), "trained_on": meta.get("data_digest")},
        fingerprint=fingerprint(), **subject.facts(), **_results(scores),
    )  # fmt: skip


class _Subject:
    """What is scored: a model with its weights, or a control; `poses(sequence)` predicts (F, J, 3) in metres."""

    def __init__(
        self, name: str, frames: int | None, weights: Path | str | None, data: PreparedData, rules: Protocol,
        batch: int, device: str,
    ) -> None:  # fmt: skip
        self.card, self.source = component(name).card, component(name).digest
        self.meta: dict[str, Any] = {}
        self.digest: str | None = None
        if self.card.task == "control":
            self.frames = frames
            self.poses = _control(name, weights, data, rules)
        elif self.card.task == "lifting":
            check_device(device)
            model = self._load(name, frames, weights).to(device).eval()
            flip = (data.index.left, data.index.right) if rules.flip_average else None
            self.poses = lambda s: predict(model, s.inputs, self.frames, self.card.output, flip, batch)
        else:
            raise ConfigError(f"{name} is a {self.card.task} model; only lifting models and controls are scored here")

    def facts(self) -> dict[str, Any]:
        """Fields of the record that describe what was scored."""
        return {
            "component": self.card.id, "digest": self.source, "weights_digest": self.digest, "frames": self.frames,
            "dtype": "float32", "mode": "eager",
        }  # fmt: skip

    def _load(self, name: str, frames: int | None, weights: Path | str | None) -> nn.Module:
        if weights is None:
            raise ConfigError(f"{name} needs weights: train it first, or give a checkpoint file")
        self.meta = read_weights_meta(weights)
        if self.meta.get("variant", name) != name:
            raise ConfigError(f"{weights} holds {self.meta['variant']}, not {name}")
        if self.meta.get("component_digest", self.source) != self.source:
            log.warning("%s was trained with another version of %s's source", weights, name)
        parameters = self.meta.get("parameters") or ({"frames": frames} if frames else {})
        self.frames = frames or self.meta.get("frames") or component(name).parameters.get("frames")
        if not isinstance(self.frames, int):
            raise ConfigError(f"{name} and {weights} do not say how many frames a window has; give frames")
        model = create_model(name, **parameters)
        load_checkpoint(model, weights)
        self.digest = weights_digest(model.state_dict())
        return model


def _control(
    name: str, weights: Path | str | None, data: PreparedData, rules: Protocol
) -> Callable[[Sequence], np.ndarray]:
    if weights is not None:
        raise ConfigError(f"{name} is a control and takes no weights, found {weights}")
    found = component(name)
    control = getattr(network_module(found.folder), found.card.network)(**found.parameters)
    control.fit(s.targets[None] for s in sequences(data, "train", rules.input_2d))
    return lambda s: control.predict(s.inputs[None], s.targets[None], before=s.targets[:1])[0]


def _positive(**options: int | None) -> None:
    for option, number in options.items():
        if number is not None and number < 1:
            raise ConfigError(f"{option} must be 1 or more, found {number}")


def _score(subject: _Subject, data: PreparedData, split: Split, rules: Protocol) -> tuple[list[Score], str, str]:
    """The errors of every sequence; then status and reason. A failure leaves no errors: a part would mislead."""
    scores: list[Score] = []
    try:
        for sequence in sequences(data, split, rules.input_2d):
            errors = _errors(subject.poses(sequence), sequence, rules)
            scores.append(Score(sequence.name, sequence.action, errors))
    except _NotFinite as error:
        return [], "crashed", str(error)
    except (torch.OutOfMemoryError, MemoryError) as error:
        return [], "oom", (str(error) or "out of memory").splitlines()[0]
    return scores, "ok", ""


def _errors(poses: np.ndarray, sequence: Sequence, rules: Protocol) -> dict[str, np.ndarray]:
    if not np.isfinite(poses).all():
        frame = int(np.argwhere(~np.isfinite(poses))[0][0])
        raise _NotFinite(f"the prediction for {sequence.name} holds NaN or infinity, first in frame {frame}")
    poses = MM * poses.astype(np.float64)
    if rules.zero_root:
        poses[:, rules.root] = 0
    return {name: metric(poses, MM * sequence.targets.astype(np.float64)) for name, metric in METRICS.items()}


def _results(scores: list[Score]) -> dict[str, Any]:
    """Fields `values`, `samples` and `labels` of the record."""
    if not scores:
        return {}
    samples = {f"{name}_by_sequence": [_mean(s.errors[name]) for s in scores] for name in METRICS}
    samples["frames_by_sequence"] = [float(s.frames) for s in scores]
    labels = {sample: [s.name for s in scores] for sample in samples} | {"actions": [s.action for s in scores]}
    return {"values": _values(scores), "samples": samples, "labels": labels}


def _values(scores: list[Score]) -> list[Value]:
    """Per metric: the mean over frames of each action, and before them the mean over actions."""
    values = []
    for name in METRICS:
        actions = dict.fromkeys(s.action for s in scores)
        means = {a: _mean(np.concatenate([s.errors[name] for s in scores if s.action == a])) for a in actions}
        means = {"": float(np.mean(list(means.values())))} | means
        values += [Value(name=name, value=v, unit=UNITS[name], better="lower", group=g) for g, v in means.items()]
    return values


def _mean(errors: np.ndarray) -> float:
    """NaN where a frame's error is undefined, or where there is none (the velocity of a single frame)."""
    return float(errors.mean()) if errors.size else float("nan")
