"""Scoring lifting models and controls under a protocol: windows, answers, errors, one record."""

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from posescale import ops
from posescale.cards import Card, component
from posescale.data.prepared import PreparedData, Split
from posescale.data.scored import Question, check_fits, questions
from posescale.data.units import labels, to_mm, unit_of
from posescale.data.windows import screen_inputs, track
from posescale.errors import ConfigError
from posescale.metrics.protocols import PROTOCOLS, Protocol
from posescale.metrics.protocols import protocol as named_protocol
from posescale.metrics.scoring import Answers, NotFinite, Score, by_sequence, score, summary
from posescale.models import network_module
from posescale.provenance import fingerprint
from posescale.records import Record
from posescale.train import predictions as stored
from posescale.train.predict import answer
from posescale.train.results import check_device, check_positive
from posescale.train.threads import torch_threads
from posescale.train.trained import load_trained, noted, origin

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Sequence:
    """One sequence to score.

    Attributes:
        name, action: labels.
        inputs: (F, J, 3) float32 x, y in screen units and confidence.
        targets: (F, J, 3) float64, what the model should predict, in label units, root-relative.
    """

    name: str
    action: str
    inputs: np.ndarray
    targets: np.ndarray


def sequences(data: PreparedData, split: Split, rules: Protocol) -> Iterator[Sequence]:
    """The sequences of a split, one at a time."""
    source = track(data, rules.input_2d)
    for s in data.sequences(split):
        inputs = screen_inputs(source[s.rows], np.float32(s.width), np.float32(s.height))
        yield Sequence(s.name, s.action, inputs, labels(data, s, rules))


def default_protocol(card: Card, data: PreparedData) -> Protocol:
    """The protocol that the model's paper follows on such data, else the data's own."""
    own = PROTOCOLS.get(card.protocols.get(data.index.dataset, ""))
    if own and own.settings.items() <= data.index.settings.items():
        return own
    return named_protocol(data.index.protocol)


def evaluate(
    name: str,
    data_dir: Path | str,
    frames: int | None = None,
    weights: Path | str | None = None,
    protocol: str | Protocol | None = None,
    split: Split = "test",
    seed: int | None = None,
    selection: str | None = None,
    *,
    batch: int = 32,
    threads: int = 1,
    device: str = "cpu",
    study: str = "",
    predictions: Path | str | None = None,
) -> Record:
    """Score a model or a control on a split.

    Args:
        name: variant id of a lifting model, or ground_truth, mean_pose, copy_previous.
        data_dir: prepared data.
        frames: T of the windows; the T that the weights were trained with, or the variant's, when not given.
        weights: a file of `posescale train` or an official checkpoint; a control takes none, a model must have one.
        protocol: a protocol or its id; the model's own on such data, or the data's, when not given.
        split: which sequences.
        seed, selection: noted in the record; taken from the weights file when it knows them.
        batch: windows per call; bounds the memory.
        threads: torch's.
        device: cpu or cuda.
        study: noted in the record.
        predictions: file to store the answers in, for `posescale.train.rescore`.

    Returns:
        a record of kind `accuracy`. Values, in mm: for each metric the protocol's mean, with a bootstrap interval over
        sequences (empty group), and the mean of each action (`group`). Samples: means and frame counts by sequence,
        labelled. Status `crashed` when a prediction holds NaN or infinity, `oom` when memory ran out.

    Raises:
        ConfigError: an argument is out of range, weights are missing or given to a control, or the protocol does not
            belong to the data.
        CheckpointError: the weights do not fit.
        DataError: the data cannot be read, the split is empty, or nothing in it is scored.
        UnavailableError: no such model or device.
    """
    check_positive(frames=frames, batch=batch, threads=threads)
    data, card = PreparedData(data_dir), component(name).card
    rules = named_protocol(protocol) if isinstance(protocol, str) else protocol or default_protocol(card, data)
    check_fits(data, rules)
    unit_of(data, rules)
    subject = _Subject(name, frames, weights, data, rules, batch, device)
    with torch_threads(threads), ops.ran() as backends:
        scores, said, status, reason = _ask(subject, data, split, rules, predictions is not None)
    record = Record(
        kind="accuracy", variant=name, study=study, dataset=data.index.dataset, protocol=rules.id,
        data_digest=data.index.digest, batch=batch, device=device, threads=threads, backends=dict(backends),
        status=status, reason=reason, options={"split": split, **origin(subject.meta)}, fingerprint=fingerprint(),
        **subject.facts(), **noted(subject.meta, seed, selection), **(results(scores, rules) if scores else {}),
    )  # fmt: skip
    if predictions is not None and status == "ok":
        stored.save(predictions, said, _circumstances(record, subject, data, rules))
    return record


def _circumstances(record: Record, subject: "_Subject", data: PreparedData, rules: Protocol) -> dict[str, Any]:
    """What must be known of stored predictions to score them again."""
    return {
        "record": record.model_dump(mode="json", exclude={"values", "samples", "labels"}), "labels": rules.labels,
        "input_2d": rules.input_2d, "output": subject.output, "window": subject.window,
        "data": str(data.folder.resolve()),
    }  # fmt: skip


def results(scores: list[Score], rules: Protocol) -> dict[str, Any]:
    """Fields `values`, `samples` and `labels` of a record."""
    return {"values": summary(scores, rules), **by_sequence(scores)}


def left_out(name: str, rules: Protocol) -> bool:
    """Whether the protocol leaves a sequence out."""
    return name.startswith(rules.excluded) if rules.excluded else False


class _Subject:
    """What is scored: a model with its weights, or a control."""

    def __init__(
        self, name: str, frames: int | None, weights: Path | str | None, data: PreparedData, rules: Protocol,
        batch: int, device: str,
    ) -> None:  # fmt: skip
        self.card, self.source = component(name).card, component(name).digest
        self.output = self.card.output
        self.meta: dict[str, Any] = {}
        self.digest: str | None = None
        self.answers: Callable[[Sequence, Question], Answers]
        if self.card.task == "control":
            self.frames = frames
            self.answers = _control(name, weights, data, rules)
        elif self.card.task == "lifting":
            check_device(device)
            model = self._load(name, frames, weights, rules).to(device).eval()
            flip = (data.index.left, data.index.right) if rules.flip_average else None
            self.answers = lambda s, q: Answers(q.told, *answer(model, s.inputs, q.rows, self.output, flip, batch))
        else:
            raise ConfigError(f"{name} is a {self.card.task} model; only lifting models and controls are scored here")

    @property
    def window(self) -> int:
        """T; a control that was given none sees single frames."""
        return self.frames or 1

    def facts(self) -> dict[str, Any]:
        """Fields of the record that describe what was scored."""
        return {
            "component": self.card.id, "digest": self.source, "weights_digest": self.digest, "frames": self.frames,
            "dtype": "float32", "mode": "eager",
        }  # fmt: skip

    def _load(self, name: str, frames: int | None, weights: Path | str | None, rules: Protocol) -> nn.Module:
        trained = load_trained(name, frames, weights)
        self.meta, self.frames, self.digest = dict(trained.meta), trained.frames, trained.digest
        if (taught := self.meta.get("labels", rules.labels)) != rules.labels:
            raise ConfigError(f"{weights} predicts {taught}, protocol {rules.id} scores {rules.labels}")
        return trained.model


def _control(
    name: str, weights: Path | str | None, data: PreparedData, rules: Protocol
) -> Callable[[Sequence, Question], Answers]:
    if weights is not None:
        raise ConfigError(f"{name} is a control and takes no weights, found {weights}")
    found = component(name)
    control = getattr(network_module(found.folder), found.card.network)(**found.parameters)
    control.fit(s.targets[None] for s in sequences(data, "train", rules))

    def answers(s: Sequence, question: Question) -> Answers:
        poses = control.predict(s.inputs[None], s.targets[None], before=s.targets[:1])[0]
        return Answers(question.told, poses[question.told])

    return answers


def _ask(
    subject: _Subject, data: PreparedData, split: Split, rules: Protocol, keep: bool
) -> tuple[list[Score], dict[str, Answers], str, str]:
    """Errors and, if they are to be kept, answers of every sequence; then status and reason.

    A failure leaves no errors: a part would mislead.
    """
    scores: list[Score] = []
    said: dict[str, Answers] = {}
    asked = questions(data, split, rules, subject.window, subject.output)
    try:
        for entry, sequence, question in zip(data.sequences(split), sequences(data, split, rules), asked, strict=True):
            if not len(question.rows) or (left_out(sequence.name, rules) and not keep):
                continue
            answers = subject.answers(sequence, question)
            if keep:
                said[sequence.name] = answers
            if not left_out(sequence.name, rules):
                said_of = (answers, question.counted, sequence.targets, to_mm(data, entry, rules))
                scores.append(score(entry.name, entry.action, *said_of, rules, entry.performance))
    except NotFinite as error:
        return [], {}, "crashed", str(error)
    except (torch.OutOfMemoryError, MemoryError) as error:
        return [], {}, "oom", (str(error) or "out of memory").splitlines()[0]
    if not scores:
        raise ConfigError(f"protocol {rules.id} leaves out every sequence of split {split!r} of {data.folder}")
    return scores, said, "ok", ""
