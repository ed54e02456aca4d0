"""Scoring video models and controls: every annotated person of a split once, under one of three conditions in time."""

from pathlib import Path
from typing import Any, Literal

import torch

from posescale import ops
from posescale.cards import component
from posescale.data.prepared import Split
from posescale.data.video.clips import VideoClips
from posescale.data.video.prepared import VideoData
from posescale.errors import ConfigError
from posescale.metrics.video_protocols import VideoProtocol, video_protocol
from posescale.models import network_module
from posescale.provenance import fingerprint
from posescale.records import Record
from posescale.train.results import check_device, check_positive
from posescale.train.threads import torch_threads
from posescale.train.trained import load_trained, noted, origin
from posescale.train.video.predict import NotFinite, Predictions, predict, predict_by_control
from posescale.train.video.tables import scores

# What a clip's other frames are at test: as they are; the key frame again; random other frames of the same video; those
# of another video. The first and the last of these controls leave a trained model nothing that it could gain by time.
CONDITIONS = {"as_is": "real", "own_frame": "frozen", "shuffled": "shuffled", "other_video": "foreign"}
Condition = Literal["as_is", "own_frame", "shuffled", "other_video"]


def evaluate(
    name: str,
    data_dir: Path | str,
    frames: int | None = None,
    weights: Path | str | None = None,
    protocol: str | None = None,
    split: Split | None = None,
    seed: int | None = None,
    selection: str | None = None,
    *,
    condition: Condition = "as_is",
    batch: int = 32,
    threads: int = 1,
    device: str = "cpu",
    study: str = "",
) -> Record:
    """Score a video model or a control on a split.

    Args:
        name: variant id of a video model, or ground_truth, mean_pose, copy_previous, interpolate_visible.
        data_dir: prepared video data.
        frames: T; the T that the weights were trained with when not given. How far interpolation reaches is T // 2.
        weights: a file of `posescale train` or an official checkpoint; a control takes none, a model must have one.
        protocol: id of a video protocol; the data's own when not given.
        split: which videos; the one that papers report when not given.
        seed, selection: noted in the record; taken from the weights file when it knows them.
        condition: a key of `CONDITIONS`.
        batch: clips per call; bounds the memory.
        threads: torch's.
        device: cpu or cuda.
        study: noted in the record.

    Returns:
        a record of kind `accuracy` with the values and samples of `tables.scores`. Status `crashed` when a prediction
        holds NaN or infinity, `oom` when memory ran out.

    Raises:
        ConfigError: an argument is out of range, weights are missing or given to a control, or the model is none for
            video.
        CheckpointError: the weights do not fit.
        DataError: the data cannot be read or the split is empty.
        UnavailableError: no such model or device.
    """
    check_positive(frames=frames, batch=batch, threads=threads)
    if condition not in CONDITIONS:
        raise ConfigError(f"condition must be one of {', '.join(CONDITIONS)}, found {condition!r}")
    data, found = VideoData(data_dir), component(name)
    split, rules = split or data.index.reported, video_protocol(protocol or data.index.protocol)
    subject = _Control if found.card.task == "control" else _Model
    scored = subject(name, frames, weights, data, split, rules, condition, batch, device)
    with torch_threads(threads), ops.ran() as backends:
        results, status, reason = _score(scored, data, split, rules)
    options = {
        "task": "video", "split": split, "condition": condition, "ties": results.pop("ties", {}),
        **origin(scored.meta), "settings": data.index.settings,
    }  # fmt: skip
    return Record(
        kind="accuracy", component=found.card.id, variant=name, digest=found.digest, study=study,
        dataset=data.index.dataset, protocol=rules.id, data_digest=data.index.digest, weights_digest=scored.digest,
        frames=scored.frames, resolution=scored.size, batch=batch, dtype="float32", mode="eager", device=device,
        threads=threads, backends=dict(backends), status=status, reason=reason, options=options,
        fingerprint=fingerprint(), **noted(scored.meta, seed, selection), **results,
    )  # fmt: skip


class _Model:
    """A trained model; T, H and W are those it was built for."""

    def __init__(
        self, name: str, frames: int | None, weights: Path | str | None, data: VideoData, split: Split,
        rules: VideoProtocol, condition: Condition, batch: int, device: str,
    ) -> None:  # fmt: skip
        if (task := component(name).card.task) != "video":
            raise ConfigError(f"{name} is a {task} model and {data.folder} holds video data")
        check_device(device)
        trained = load_trained(name, frames, weights, joints=len(data.skeleton.joints))
        self.meta, self.digest, self.frames = trained.meta, trained.digest, trained.frames
        self.size = trained.parameters["height"], trained.parameters["width"]
        self.model, self.batch, self.device = trained.model.to(device), batch, device
        self.clips = VideoClips(
            data, split, self.frames, *self.size, boxes=rules.boxes, neighbours=CONDITIONS[condition]
        )

    def predictions(self) -> Predictions:
        """Of every sample."""
        return predict(self.model, self.clips, self.batch, self.device)


class _Control:
    """A control: no image is read."""

    meta: dict[str, Any] = {}
    digest = size = None

    def __init__(
        self, name: str, frames: int | None, weights: Path | str | None, data: VideoData, split: Split,
        rules: VideoProtocol, condition: Condition, batch: int, device: str,
    ) -> None:  # fmt: skip
        if weights is not None or condition != "as_is" or rules.boxes != "gt":
            raise ConfigError(f"{name} is a control: it takes no weights, no condition, and ground-truth boxes alone")
        found = component(name)
        reach = {"reach": frames // 2} if frames and "reach" in found.parameters else {}
        self.frames, self.data = frames, data
        self.control = getattr(network_module(found.folder), found.card.network)(**(found.parameters | reach))
        self.clips = VideoClips(data, split, 1, 16, 16)

    def predictions(self) -> Predictions:
        """Of every sample."""
        return predict_by_control(self.control, self.data, self.clips)


def _score(
    scored: _Model | _Control, data: VideoData, split: Split, rules: VideoProtocol
) -> tuple[dict[str, Any], str, str]:
    """Scores, status and reason. A failure leaves no scores: a part would mislead."""
    try:
        return scores(data, split, rules, scored.predictions()), "ok", ""
    except NotFinite as error:
        return {}, "crashed", str(error)
    except (torch.OutOfMemoryError, MemoryError) as error:
        return {}, "oom", (str(error) or "out of memory").splitlines()[0]
