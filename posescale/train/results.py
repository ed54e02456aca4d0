"""What a training run leaves: weights, history and record."""

import csv
import io
import shutil
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from posescale import records
from posescale.checkpoints import save_weights
from posescale.errors import ConfigError, UnavailableError
from posescale.files import write_whole
from posescale.provenance import fingerprint
from posescale.records import Record, Value
from posescale.train.module import Training

if TYPE_CHECKING:
    from posescale.train.run import Run

WEIGHTS = {"last": "weights-last.pt", "val-best": "weights-val-best.pt"}
DTYPES = {"32-true": "float32", "64-true": "float64", "bf16-mixed": "bfloat16", "16-mixed": "float16"}


def weights_digest(state: dict[str, torch.Tensor]) -> str:
    """Twelve hex digits of a SHA-256 over names and bytes of a state_dict's entries, in order."""
    digest = sha256()
    for name, value in state.items():
        digest.update(
            name.encode() + b"\0" + value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
        )
    return digest.hexdigest()[:12]


def check_device(device: str) -> None:
    """Raise UnavailableError unless torch can compute on `device` here."""
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UnavailableError(f"device {device!r} is not to be had here: {str(error).splitlines()[0]}") from error


def check_positive(**options: int | None) -> None:
    """Raise ConfigError for a number below 1; None means that it was not given."""
    for option, number in options.items():
        if number is not None and number < 1:
            raise ConfigError(f"{option} must be 1 or more, found {number}")


def clear(out: Path) -> None:
    """Remove the results of an earlier run, and what a killed one left half written; the resume state stays."""
    for name in (*WEIGHTS.values(), "history.csv", "record.jsonl"):
        (out / name).unlink(missing_ok=True)
        for partial in out.glob(f".{name}.*"):
            partial.unlink()


def write(out: Path, training: Training, run: "Run", status: str, reason: str) -> Record:
    """Write a finished run: the record last, then the resume state goes. A failed run leaves history and record."""
    history = io.StringIO()
    table = csv.DictWriter(history, fieldnames=["epoch", "lr", "loss", run.track.watched.name], lineterminator="\n")
    table.writeheader()
    table.writerows(training.progress.history)
    digests = _write_weights(out, training, run) if status == "ok" else {}
    write_whole(out / "history.csv", history.getvalue().encode())
    record = _record(training, run, digests, status=status, reason=reason)
    records.write(out / "record.jsonl", [record])
    if status == "ok":
        shutil.rmtree(out / "resume", ignore_errors=True)
    return record


def _write_weights(out: Path, training: Training, run: "Run") -> dict[str, str]:
    """Write both selections; their digests. The model is left with the best epoch's weights."""
    meta = {
        "variant": run.model, "parameters": run.parameters, "frames": run.frames, "seed": run.seed,
        "recipe": run.recipe.model_dump(), "data_digest": run.track.facts["data_digest"],
        "component_digest": run.component.digest, "overrides": dict(run.overrides), "label": run.label,
        **run.track.noted,
    }  # fmt: skip
    epochs = {"last": training.progress.epochs, "val-best": training.progress.best_epoch}
    digests = {}
    for selection, name in WEIGHTS.items():
        if not epochs[selection]:  # no validation data, so no best epoch
            continue
        if selection == "val-best":
            training.scored.load_state_dict(training.best)
        save_weights(out / name, training.scored, meta | {"epoch": epochs[selection], "selection": selection})
        digests[selection] = weights_digest(training.scored.state_dict())
    return digests


def _record(training: Training, run: "Run", digests: dict[str, str], **ending: Any) -> Record:
    progress, history = training.progress, training.progress.history
    watched = run.track.watched
    values = [
        Value(name="epochs", value=progress.epochs, unit="epochs"),
        Value(name="steps", value=progress.steps, unit="steps"),
        Value(name="clips", value=progress.clips, unit="clips"),
        Value(name="seconds", value=progress.seconds, unit="s", better="lower"),
    ]
    scores = [row[watched.name] for row in history if row[watched.name] is not None]
    if history:
        values.append(Value(name="loss", value=history[-1]["loss"], unit="", better="lower"))
    if scores:
        kind = {"unit": watched.unit, "better": watched.better}
        values += [
            Value(name=watched.name, value=scores[-1], **kind),
            Value(name=f"{watched.name}_best", value=watched.best(scores), **kind),
            Value(name="best_epoch", value=progress.best_epoch, unit="epochs"),
        ]
    return Record(
        kind="training", component=run.component.card.id, variant=run.model, digest=run.component.digest,
        study=run.study, label=run.label, **run.track.facts,
        weights_digest=digests.get("last"), frames=run.frames, batch=run.sized.batch,
        dtype=DTYPES[run.recipe.precision], mode="eager", device=run.device, threads=run.threads,
        backends=progress.backends, seed=run.seed, values=values,
        options={
            "recipe": run.recipe.model_dump(), "overrides": dict(run.overrides), "weights": digests,
            "devices": run.devices, "start": run.start and run.start.name,
        },
        samples={"loss": [row["loss"] for row in history]} | ({watched.name: scores} if scores else {}),
        fingerprint=fingerprint(), **ending,
    )  # fmt: skip
