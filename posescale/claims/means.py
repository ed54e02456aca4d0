"""What this machine has to test a claim with: components, weights, recipes, readers, prepared data, protocols."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from posescale.cards import ROOT, Component, components
from posescale.metrics.protocols import PROTOCOLS
from posescale.metrics.video_protocols import VIDEO_PROTOCOLS


@dataclass(frozen=True)
class Standing:
    """What is known of one variant.

    Attributes:
        digest: of the component's source files.
        component: id of the card, which its variants share.
        parameters: the variant's constructor arguments on its card.
        checkpoint: name of the official file of weights, None when none was published.
        reconstruction: why the network is our reading of the paper and not a copy of its code, "" when it was checked.
        recipes: the authors' recipes on the card, by name.
    """

    digest: str
    parameters: Mapping[str, Any] = field(default_factory=dict)
    checkpoint: str | None = None
    reconstruction: str = ""
    recipes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    component: str = ""


@dataclass(frozen=True)
class Means:
    """What there is: variants by id, datasets with a reader, datasets prepared, protocols."""

    components: Mapping[str, Standing] = field(default_factory=dict)
    readers: frozenset[str] = frozenset()
    prepared: frozenset[str] = frozenset()
    protocols: frozenset[str] = frozenset()

    def frames(self, variant: str) -> int:
        """The clip length a variant has on its card; 1 when it names none."""
        frames = self.components[variant].parameters.get("frames", 1)
        return frames if isinstance(frames, int) else 1


def look(folders: Iterable[Path] = ()) -> Means:
    """Look at the cards and, for prepared data, below the folders that hold records."""
    return Means(
        components={name: _standing(found) for name, found in components().items()},
        readers=frozenset(path.parent.name for path in (ROOT / "posescale" / "data").glob("*/reader.py")),
        prepared=frozenset(filter(None, map(_dataset, _indices(folders)))),
        protocols=frozenset(PROTOCOLS) | frozenset(VIDEO_PROTOCOLS),
    )


def _standing(found: Component) -> Standing:
    checkpoint = found.card.variants[found.variant].checkpoint
    official = {name: r for name, r in found.card.recipes.items() if r.origin == "official"}
    return Standing(
        digest=found.digest,
        component=found.card.id,
        parameters=found.parameters,
        checkpoint=checkpoint.file if checkpoint else None,
        reconstruction=found.card.reconstruction,
        recipes={name: r.model_dump(mode="json", exclude={"note"}) for name, r in official.items()},
    )


def _indices(folders: Iterable[Path]) -> list[Path]:
    return [path for folder in folders if folder.is_dir() for path in sorted(folder.rglob("index.json"))]


def _dataset(index: Path) -> str | None:
    """The dataset an index describes; None for other files of that name."""
    try:
        content = json.loads(index.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return content.get("dataset") if isinstance(content, dict) else None
