"""Component cards: what a model is, said once, beside its network.

A component is a folder below `models/` or `baselines/` with a `card.yaml`, a `network.py` and a `README.md`.
Discovery reads the cards and nothing else, so listing models needs no torch. Further roots (components outside
this repository) are named in the environment variable POSESCALE_COMPONENTS, separated like PATH.
"""

import difflib
import hashlib
import os
from functools import cache
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from posescale.errors import ConfigError, UnavailableError
from posescale.recipes import Recipe

ROOT = Path(__file__).resolve().parent.parent
Task = Literal["lifting", "video", "control"]


class Strict(BaseModel):
    """Cards refuse unknown keys: a typing error must not become a default."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Paper(Strict):
    """Where the component was published."""

    title: str
    venue: str
    year: int
    url: str


class Upstream(Strict):
    """The official code: what it is, under which licence, and what of it was used here."""

    repository: str
    commit: str | None = None
    licence: str
    used: str


class Checkpoint(Strict):
    """An official file of weights: where it is published and what it must look like.

    Attributes:
        source: the page or folder that publishes it.
        file: how it is called there.
        save_as: its name on this machine; the last part of `file` when empty.
        sha256: where it is published; else the first file used sets it (posescale.lockfile).
        dataset: that it was trained on.
        parameters: constructor's arguments that differ from the variant's.
        under: key of the file that holds the weights; empty when the file is nothing but weights.
        prefix: what stands before every name.
    """

    source: str
    file: str
    save_as: str = ""
    sha256: str | None = None
    dataset: str = "h36m"
    parameters: dict[str, Any] = Field(default_factory=dict)
    under: str = "model_pos"
    prefix: str = "module."
    note: str = ""

    @property
    def name(self) -> str:
        """The file's name on this machine."""
        return self.save_as or self.file.rsplit("/", 1)[-1]


class Variant(Strict):
    """One named size: the constructor's arguments, and what is known of its official checkpoint."""

    parameters: dict[str, Any] = Field(default_factory=dict)
    checkpoint: Checkpoint | None = None
    more_checkpoints: list[Checkpoint] = Field(default_factory=list)  # of other datasets or lengths
    note: str = ""

    @property
    def checkpoints(self) -> list[Checkpoint]:
        """All official files, the main one first."""
        return ([self.checkpoint] if self.checkpoint else []) + self.more_checkpoints


class CostFormula(Strict):
    """Closed forms of one forward pass of one clip, as sympy expressions in T, J and the constructor's arguments.

    `symbols` are evaluated in order, so a later one may use an earlier one. Results are exact integers.
    """

    symbols: dict[str, str] = Field(default_factory=dict)
    contractions: str  # MACs of every matrix product and convolution
    scan: str = "0"  # FLOPs of the selective scan, (9 N + 1) per token, channel and direction
    parameters: str | None = None


class Card(Strict):
    """`card.yaml` of a component folder."""

    id: str
    title: str
    task: Task
    summary: str
    paper: Paper | None = None
    upstream: Upstream | None = None
    network: str  # class or function in network.py that builds the model
    output: Literal["seq2seq", "seq2frame"] = "seq2seq"
    reconstruction: str = ""  # why ours cannot be checked against the authors' code, where that is so
    confidence: bool = False  # whether the detector's confidence is read
    protocols: dict[str, str] = Field(default_factory=dict)  # dataset -> the protocol that the paper's numbers follow
    variants: dict[str, Variant]
    recipes: dict[str, Recipe] = Field(default_factory=dict)
    cost: CostFormula | None = None
    key_map: dict[str, str] = Field(default_factory=dict)  # official name -> ours, where they differ


class Component(Strict):
    """A card, one of its variants, and the folder they live in."""

    card: Card
    variant: str
    folder: Path

    @property
    def parameters(self) -> dict[str, Any]:
        """Constructor arguments of the variant, before overrides."""
        return dict(self.card.variants[self.variant].parameters)

    @property
    def digest(self) -> str:
        """Twelve hex digits over the folder's source files: changes when the component does."""
        return folder_digest(self.folder)

    @property
    def sources(self) -> list[Path]:
        """The files the digest covers, for a pipeline's inputs."""
        return _sources(self.folder)


def _sources(folder: Path) -> list[Path]:
    return sorted(p for p in folder.rglob("*") if p.suffix in {".py", ".yaml"} and "__pycache__" not in p.parts)


def folder_digest(folder: Path) -> str:
    """Twelve hex digits over names and bytes of the `.py` and `.yaml` files below `folder`."""
    digest = hashlib.sha256()
    for path in _sources(folder):
        digest.update(path.relative_to(folder).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:12]


def component_roots() -> list[Path]:
    """Folders searched for components: the repository's own two, then those in POSESCALE_COMPONENTS."""
    extra = [Path(p) for p in os.environ.get("POSESCALE_COMPONENTS", "").split(os.pathsep) if p]
    return [ROOT / "models", ROOT / "baselines", *extra]


def read_card(path: Path) -> Card:
    """Read and check one `card.yaml`.

    Raises:
        ConfigError: names the file, each wrong key and what was expected there.
    """
    try:
        return Card.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not valid YAML: {error}") from error
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise ConfigError(f"{path}: {wrong}") from error


@cache
def _components(roots: tuple[Path, ...]) -> dict[str, Component]:
    found: dict[str, Component] = {}
    for path in (card for root in roots for card in sorted(root.glob("*/card.yaml"))):
        card = read_card(path)
        for variant in card.variants:
            if variant in found:
                raise ConfigError(
                    f"{path}: variant {variant!r} is also declared in {found[variant].folder}; rename one"
                )
            found[variant] = Component(card=card, variant=variant, folder=path.parent)
    return found


def components() -> dict[str, Component]:
    """Every variant of every component, by its id."""
    return _components(tuple(component_roots()))


def component(name: str) -> Component:
    """The component whose card declares the variant `name`.

    Raises:
        UnavailableError: when no card declares it, with the nearest names.
    """
    known = components()
    if name not in known:
        near = difflib.get_close_matches(name, known, n=3) or sorted(known)
        raise UnavailableError(f"no model is called {name!r}; did you mean {', '.join(near)}? (`posescale models`)")
    return known[name]


def list_models(task: Task | None = None) -> list[str]:
    """Ids of all models, or of those with one task; controls only when asked for by `task="control"`."""
    wanted = {task} if task else {"lifting", "video"}
    return sorted(name for name, c in components().items() if c.card.task in wanted)
