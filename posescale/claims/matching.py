"""Which records speak about which claim."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from posescale.claims.means import Means
from posescale.claims.schema import Claim
from posescale.metrics.splits import PUBLISHED, parts_of
from posescale.records import Record


@dataclass(frozen=True)
class Cell:
    """One configuration of a model: variant, clip length and the arguments that differ from its card (JSON)."""

    variant: str
    frames: int
    changes: str = "{}"

    @property
    def overrides(self) -> dict[str, Any]:
        """The arguments that differ from the card."""
        return json.loads(self.changes)


def cell(means: Means, variant: str, frames: int | None, overrides: Mapping[str, Any]) -> Cell:
    """The cell of a variant that this machine has; `frames` None means the card's.

    One network has one cell, however it is called: arguments that make the variant another one of its card name that.
    """
    standing = means.components[variant]
    asked = _without_frames(standing.parameters | overrides)
    for name, other in means.components.items():
        same_card = standing.component and other.component == standing.component
        if same_card and _without_frames(other.parameters) == asked:
            return Cell(name, frames or means.frames(variant))
    changes = {k: v for k, v in asked.items() if standing.parameters.get(k) != v}
    return Cell(variant, frames or means.frames(variant), json.dumps(changes, sort_keys=True, default=str))


def _without_frames(parameters: Mapping[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in parameters.items() if k != "frames"}


def cells(claim: Claim, means: Means) -> list[Cell]:
    """The cells whose counts a claim needs: its own, and that of the model it compares with; those that exist here."""
    wanted = [(claim.component, claim.overrides), (claim.relative_to, {})]
    return [cell(means, name, claim.frames, changes) for name, changes in wanted if name in means.components]


def place_of(record: Record, means: Means) -> Cell | None:
    """The cell that a record measured; None for a variant that is not here."""
    if record.variant not in means.components or record.frames is None:
        return None
    return cell(means, record.variant, record.frames, _overrides(record))


@dataclass(frozen=True)
class Evidence:
    """Records sorted by what they can test.

    Attributes:
        costs: the newest count of each cell, by the component as it is now; a failed one only where no other is.
        accuracies: those with status ok.
        trainings: by the digest of the weights they left.
        speeds: latency and memory records made on a GPU.
        means: what the machine has.
    """

    means: Means
    costs: dict[Cell, Record] = field(default_factory=dict)
    accuracies: list[Record] = field(default_factory=list)
    trainings: dict[str, Record] = field(default_factory=dict)
    speeds: list[Record] = field(default_factory=list)


def sort(records: Iterable[Record], means: Means) -> Evidence:
    """Sort records; each once, the newest last."""
    evidence = Evidence(means)
    unique = {(record.id, record.started): record for record in records}
    for record in sorted(unique.values(), key=lambda r: (r.started, r.id)):
        if record.kind == "cost":
            _add_cost(evidence, record)
        elif record.kind == "accuracy" and record.status == "ok":
            evidence.accuracies.append(record)
        elif record.kind == "training":
            evidence.trainings.update(dict.fromkeys(_weights(record), record))
        elif record.kind in ("latency", "memory") and record.status == "ok" and _on_gpu(record):
            evidence.speeds.append(record)
    return evidence


def _add_cost(evidence: Evidence, record: Record) -> None:
    place = place_of(record, evidence.means)
    if place is None or record.digest != evidence.means.components[record.variant].digest or record.batch != 1:
        return
    if record.status == "ok" or place not in evidence.costs:
        evidence.costs[place] = record


def _overrides(record: Record) -> dict[str, Any]:
    found = record.options.get("overrides")
    return found if isinstance(found, dict) else {}


def _weights(record: Record) -> set[str]:
    by_selection = record.options.get("weights")
    digests = set(by_selection.values()) if isinstance(by_selection, dict) else set()
    return {d for d in (*digests, record.weights_digest) if isinstance(d, str)}


def _on_gpu(record: Record) -> bool:
    return bool((record.device or "").startswith("cuda") and record.fingerprint.get("gpu"))


@dataclass(frozen=True)
class Runs:
    """Accuracy records that speak about one claim.

    Attributes:
        published: scores of weights that no training record here knows: the official file.
        retrained: scores of weights trained here by the paper's recipe, by selection, one per seed.
        other_recipes: how many records were trained otherwise, and do not count.
        single_splits: scores on one of the splits that the number is the mean of; they do not count either.
    """

    published: list[Record] = field(default_factory=list)
    retrained: dict[str, dict[int, Record]] = field(default_factory=dict)
    other_recipes: int = 0
    single_splits: list[Record] = field(default_factory=list)


def runs(claim: Claim, evidence: Evidence) -> Runs:
    """The accuracy records under a claim's own conditions, sorted by where their weights come from."""
    published, retrained, others, singles = [], {}, 0, []
    asked = cells(claim, evidence.means)[0]
    for record in evidence.accuracies:
        if not _same_conditions(claim, record) or record.variant not in evidence.means.components:
            continue
        weights = _scored_weights(record)
        trainings = [evidence.trainings.get(digest) for digest in weights]
        networks = {_network(record, training, evidence.means) for training in trainings}
        if networks != {(asked.variant, asked.changes)}:
            continue
        if over_splits(claim) and not parts_of(record):
            singles.append(record)
        elif record.seed is None and all(weights) and not any(trainings):
            published.append(record)
        elif record.seed is not None and all(t and _by_the_paper(t, evidence.means) for t in trainings):
            retrained.setdefault(record.selection or "unknown", {})[record.seed] = record
        else:
            others += 1
    return Runs(published, retrained, others, singles)


def over_splits(claim: Claim) -> bool:
    """Whether a number is the mean over a dataset's published splits."""
    return claim.dataset in PUBLISHED and "split" not in claim.settings


def _scored_weights(record: Record) -> list[str]:
    """Digests of the weights that were scored, one for each split that a record averages; empty where none is noted."""
    digests = [part.get("weights_digest") for part in parts_of(record).values()] or [record.weights_digest]
    return [digest or "" for digest in digests]


def _network(record: Record, training: Record | None, means: Means) -> tuple[str, str]:
    place = cell(means, record.variant, record.frames, _overrides(training) if training else {})
    return place.variant, place.changes


def _same_conditions(claim: Claim, record: Record) -> bool:
    frames = claim.frames is None or record.frames == claim.frames
    tested = record.options.get("split", "test") == "test"
    read = record.options.get("settings") or {}
    alike = all(read.get(key) == value for key, value in claim.settings.items())
    return (record.dataset, record.protocol) == (claim.dataset, claim.protocol) and frames and tested and alike


def _by_the_paper(training: Record, means: Means) -> bool:
    recipe = training.options.get("recipe")
    if not isinstance(recipe, dict):
        return False
    plain = {k: v for k, v in recipe.items() if k != "note"}
    return any(plain == dict(official) for official in means.components[training.variant].recipes.values())
