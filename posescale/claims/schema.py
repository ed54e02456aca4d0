"""Published numbers as data: one file per paper in `papers/`, its tables, their rows, their numbers as printed.

    id: posemamba
    title: ...
    tables:
      - name: Table 1            # conditions of the whole table; a row may change any of them
        source: paper (arXiv v2)
        evidence: paper
        frames: 243
        rows:
          - {model: PoseMamba-S, component: posemamba_s, printed: {parameters: 0.9M, mpjpe: "41.8"}}

Every printed number is one claim, `posemamba/table-1/posemamba-s-t243/parameters`.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StrictStr, ValidationError, model_validator

from posescale.claims.formula import check
from posescale.claims.printed import Printed, parse
from posescale.errors import ConfigError

PAPERS = Path(__file__).with_name("papers")
UNSETTLED = "unsettled"  # the protocol of a number whose source leaves it open
Evidence = Literal["paper", "readme", "second_hand", "memory", "derived"]
Selection = Literal["test-best", "val-best", "last", "unknown"]
Family = Literal["count", "accuracy", "speed"]


@dataclass(frozen=True)
class Quantity:
    """What a number measures.

    Attributes:
        unit: of the value.
        family: which kind of record can test it.
        source: name of the value in records.
        saving: whether the number says how much less than `relative_to`.
        per_frame: whether it is a count divided by the frames of a clip.
    """

    unit: str
    family: Family
    source: str
    saving: bool = False
    per_frame: bool = False


QUANTITIES = {
    "parameters": Quantity("parameters", "count", "parameters"),
    "parameters_saving": Quantity("%", "count", "parameters", saving=True),
    "macs": Quantity("MAC", "count", "macs"),
    "macs_per_frame": Quantity("MAC/frame", "count", "macs", per_frame=True),
    "macs_saving": Quantity("%", "count", "macs", saving=True),
    "flops": Quantity("FLOP", "count", "flops"),
    "flops_per_frame": Quantity("FLOP/frame", "count", "flops", per_frame=True),
    "mpjpe": Quantity("mm", "accuracy", "mpjpe"),
    "p_mpjpe": Quantity("mm", "accuracy", "p_mpjpe"),
    "mpjpe_gt2d": Quantity("mm", "accuracy", "mpjpe"),
    "p_mpjpe_gt2d": Quantity("mm", "accuracy", "p_mpjpe"),
    "pck": Quantity("%", "accuracy", "pck"),
    "pck_15": Quantity("%", "accuracy", "pck_15"),
    "auc": Quantity("%", "accuracy", "auc"),
    "ap": Quantity("%", "accuracy", "ap"),
    "fps": Quantity("frames/s", "speed", "throughput"),
    "speedup": Quantity("x", "speed", "latency"),
    "memory_saving": Quantity("%", "speed", "peak_allocated", saving=True),
}


def _known(name: str) -> str:
    if name not in QUANTITIES:
        raise ValueError(f"unknown quantity {name!r}; known are {', '.join(QUANTITIES)}")
    return name


def _readable(text: str) -> str:
    parse(text)
    return text


QuantityName = Annotated[str, AfterValidator(_known)]
Formula = Annotated[StrictStr, AfterValidator(check)]
PrintedText = Annotated[StrictStr, AfterValidator(_readable)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Conditions(_Strict):
    """What a number holds under. None: the source does not say, or it does not apply.

    Attributes:
        source: where the number was found.
        evidence: `paper` and `readme` were read there; `second_hand` in a text that reprints or quotes it; `memory`
            was not checked again; `derived` was worked out from something else that the source says.
        note: what a reader must know to judge it.
        component: our variant that is (or, once it is built, will be) this model.
        overrides: constructor arguments that make the variant this row.
        relative_to: our variant that the number compares with; the number is then a ratio.
        dataset, protocol: by the ids that records carry; `unsettled` where the source leaves the protocol open.
        settings: of the dataset's reader that the number holds for, such as which part of the data; where papers report
            the mean over published splits (`posescale.metrics.splits`), that is meant unless `split` is named here.
        convention: how it was counted, where known.
        formula: that convention as arithmetic in the constructor's arguments and T, where no counter follows it.
        selection: which epoch's weights were scored.
        hardware: what it was timed on.
    """

    source: str = ""
    evidence: Evidence | None = None
    note: str = ""
    component: str | None = None
    overrides: dict[str, Any] = Field(default_factory=dict)
    relative_to: str | None = None
    dataset: str | None = None
    settings: dict[str, Any] = Field(default_factory=dict)
    protocol: str | None = None
    frames: int | None = Field(default=None, gt=0)
    input_2d: str | None = None
    convention: str | None = None
    formula: Formula | None = None
    selection: Selection = "unknown"
    hardware: str | None = None


class Row(Conditions):
    """One row of a published table: numbers as printed, quoted where YAML would read them as numbers.

    `label` tells two rows of one model in one table apart.
    """

    model: str
    label: str = ""
    printed: dict[QuantityName, PrintedText] = Field(min_length=1)


class Table(Conditions):
    """A published table, or a sentence; its conditions hold for every row that does not say otherwise."""

    name: str
    rows: list[Row] = Field(min_length=1)


class Paper(_Strict):
    """A file of `papers/`."""

    id: str = Field(pattern=r"^[a-z0-9-]+$")
    title: str
    venue: str | None = None
    year: int | None = Field(default=None, ge=1990, le=2100)
    url: str | None = Field(default=None, pattern=r"^https?://")
    tables: list[Table] = Field(min_length=1)


class Claim(Conditions):
    """One published number with everything it holds under."""

    id: str
    paper: str
    title: str
    venue: str | None
    year: int | None
    url: str | None
    table: str
    model: str
    quantity: QuantityName
    printed: PrintedText
    evidence: Evidence

    @property
    def number(self) -> Printed:
        """The printed string as value and rounding."""
        return parse(self.printed)

    @property
    def value(self) -> float:
        """In base units: parameters, MACs, mm, percent."""
        return self.number.value

    @property
    def unit(self) -> str:
        """Unit of `value`."""
        return "%" if self.printed.endswith("%") else QUANTITIES[self.quantity].unit

    @property
    def family(self) -> Family:
        """Which kind of record can test it."""
        return QUANTITIES[self.quantity].family

    @model_validator(mode="after")
    def _complete(self) -> "Claim":
        """A number without its conditions cannot be tested, now or ever."""
        quantity = QUANTITIES[self.quantity]
        if not self.source:
            raise ValueError("source: say where the number was found")
        if self.family == "accuracy" and not (self.dataset and self.protocol):
            raise ValueError(f"{self.quantity}: an accuracy needs a dataset and a protocol")
        if (quantity.saving or self.quantity == "speedup") and not self.relative_to:
            raise ValueError(f"{self.quantity}: say in relative_to which model it compares with")
        if self.overrides and not self.component:
            raise ValueError("overrides: they belong to a component, and none is named")
        if self.formula and not (self.convention and self.component and self.family == "count"):
            raise ValueError("formula: it belongs to a count of a component, by a convention that is named")
        if quantity.per_frame and not self.frames:
            raise ValueError(f"{self.quantity}: say of how many frames the clip is")
        return self


class _Loader(yaml.SafeLoader):
    """YAML that refuses a key given twice: the second number would silently replace the first."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        twice = next((key for i, key in enumerate(keys) if key in keys[:i]), None)
        if twice is not None:
            raise yaml.constructor.ConstructorError(None, None, f"key {twice!r} is there twice", node.start_mark)
        return super().construct_mapping(node, deep)


def read_paper(path: Path) -> list[Claim]:
    """The claims of one file, in its order.

    Raises:
        ConfigError: names the file, each wrong key, what is wrong with it and what was found.
    """
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{path}: cannot be read as YAML: {error}") from error
    try:
        paper = Paper.model_validate(content)
    except ValidationError as error:
        raise ConfigError(f"{path}: " + "; ".join(map(_explain, error.errors()))) from error
    if paper.id != path.stem:
        raise ConfigError(f"{path}: id is {paper.id!r}, but the file is called {path.name!r}; make them equal")
    return list(_claims(paper, path))


def _claims(paper: Paper, path: Path) -> Iterator[Claim]:
    seen: set[str] = set()
    shared = {"paper": paper.id} | {key: getattr(paper, key) for key in ("title", "venue", "year", "url")}
    for i, table in enumerate(paper.tables):
        for j, row in enumerate(table.rows):
            conditions = table.model_dump(exclude_unset=True, exclude={"name", "rows"})
            conditions |= row.model_dump(exclude_unset=True, exclude={"label", "printed"})
            place = f"{path}: tables.{i}.rows.{j} ({table.name}, {row.model})"
            for quantity, printed in row.printed.items():
                id = _identity(paper, table, row, conditions, quantity)
                if id in seen:
                    raise ConfigError(f"{place}: {id} is there twice; give one of the rows a label")
                seen.add(id)
                yield _claim(place, **conditions, **shared, id=id, table=table.name, quantity=quantity, printed=printed)


def _claim(place: str, **fields: Any) -> Claim:
    try:
        return Claim.model_validate(fields)
    except ValidationError as error:
        raise ConfigError(f"{place}: " + "; ".join(map(_explain, error.errors()))) from error


def _identity(paper: Paper, table: Table, row: Row, conditions: dict[str, Any], quantity: str) -> str:
    frames, other = conditions.get("frames"), conditions.get("relative_to")
    words = " ".join([row.model, f"t{frames}" if frames else "", f"of {other}" if other else "", row.label])
    return "/".join([paper.id, _slug(table.name), _slug(words), quantity])


def _slug(words: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", words.lower()).strip("-")


def _explain(error: dict[str, Any]) -> str:
    where = ".".join(map(str, error["loc"])) or "top level"
    if error["type"] == "extra_forbidden":
        return f"{where}: unknown key"
    if error["type"] == "string_type" and isinstance(error["input"], (int, float)):
        return f"{where}: put it in quotes as printed, such as '41.80'; YAML drops digits of {error['input']!r}"
    words = error["msg"].removeprefix("Value error, ")
    return f"{where}: {words}" + ("" if error["type"] == "value_error" else f" (found {_short(error['input'])})")


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def load_claims(folder: Path = PAPERS) -> list[Claim]:
    """All claims of a folder's files, by paper.

    Raises:
        ConfigError: the folder holds no file, or one of them is wrong (see `read_paper`).
    """
    files = sorted(folder.glob("*.yaml"))
    if not files:
        raise ConfigError(f"{folder}: no file of claims (*.yaml) there")
    return [claim for path in files for claim in read_paper(path)]
