"""A study: one dataset, some models, the same budget for all; part of the configuration. No torch here."""

import re
from typing import Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PositiveFloat,
    PositiveInt,
    field_validator,
    model_validator,
)  # fmt: skip

from posescale.cards import Card, component
from posescale.data import catalog
from posescale.errors import ConfigError, PosescaleError
from posescale.recipes import Recipe

Name = str
Task = Literal["lifting", "video"]
Height = PositiveInt
Width = PositiveInt
LENGTHS: dict[str, tuple[int, ...]] = {"lifting": (9, 27, 81, 243), "video": (1, 3, 5, 9, 17)}  # measured by default
CONTROLS = {"lifting": ("ground_truth", "mean_pose", "copy_previous")}
CONTROLS["video"] = (*CONTROLS["lifting"], "interpolate_visible")


def _check_changes(changes: dict[str, Any]) -> dict[str, Any]:
    try:
        Recipe().override(**changes)
    except PosescaleError as error:
        raise ValueError(str(error)) from error
    return changes


class Section(BaseModel):
    """A part of the configuration: unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class Size(Section):
    """How much a split holds."""

    sequences: PositiveInt
    """Videos, each camera's apart."""
    frames: PositiveInt
    """Frames of all of them."""


class Dataset(Section):
    """What a study trains and scores on."""

    name: Name
    """Dataset id, as listed by `posescale datasets`."""
    source: str | None = None
    """Folder of the raw data; the environment variable POSESCALE_DATA when not set; not needed by synthetic data."""
    settings: dict[str, Any] = Field(default_factory=dict)
    """What the dataset's reader is asked for (its card lists them)."""
    expected: Size | None = None
    """Size of its training split, for forecasts made before the data are there."""


class Training(Section):
    """How a study's models are trained: the recipe of each card, with the same changes for all."""

    recipe: str = "small"
    """Name of the recipe on each model's card."""
    changes: dict[str, Any] = Field(default_factory=dict)
    """Fields of the recipe set alike for every model: epochs, steps_per_epoch, batch ..."""

    _known_fields = field_validator("changes")(_check_changes)


class ModelChoice(Section):
    """What one model of a study does differently from the others."""

    model: Name | None = None
    """Id of the model, where the study calls it by a name of its own: a row of an ablation, say."""
    overrides: dict[str, Any] = Field(default_factory=dict)
    """Constructor arguments that differ from its card's."""
    frames: list[PositiveInt] | None = None
    """Its clip lengths T."""
    recipe: str | None = None
    """Its recipe."""
    changes: dict[str, Any] = Field(default_factory=dict)
    """Fields of its recipe that are set, besides the study's."""
    start: str | None = None
    """File of pretrained weights, where its recipe starts from such."""
    start_from: Name | None = None
    """Another model of the study, whose last weights of the same seed it starts from."""

    _known_fields = field_validator("changes")(_check_changes)

    @model_validator(mode="after")
    def _one_start(self) -> "ModelChoice":
        if self.start and self.start_from:
            raise ValueError("start and start_from exclude one another: a file, or a model of the study")
        return self


class Cost(Section):
    """Which costs are counted."""

    models: list[Name] = Field(default_factory=list)
    """Models beyond the trained ones."""
    frames: list[PositiveInt] | None = None
    """Clip lengths T; when not set 9, 27, 81, 243 for lifting and 1, 3, 5, 9, 17 for video."""
    sizes: list[tuple[Height, Width]] = Field(default_factory=list)
    """Video: crop sizes besides the study's, at the first of its clip lengths."""


class Latency(Cost):
    """Which latencies and memory peaks are measured, and how long each cell may take."""

    batch: PositiveInt = 1
    """Clips per call."""
    threads: PositiveInt = 1
    """Threads torch may use."""
    rounds: PositiveInt = 3
    """Interleaved rounds over all cells."""
    seconds: PositiveFloat = 0.5
    """Busy seconds per cell and round."""
    timeout: PositiveFloat = 120.0
    """Seconds that one step of one cell may take; what takes longer is a record that says so."""
    memory_limit: PositiveFloat | None = None
    """GiB that a measuring process may take; all that is free when not set."""


class Study(Section):
    """One dataset, some models, the same budget for all; or measurements alone, of models that are not trained."""

    title: str
    """Heading in the report."""
    dataset: Dataset | None = None
    """Its data; the dataset's card says which task it is. Not needed where nothing is trained."""
    models: list[Name] = Field(default_factory=list)
    """What is trained: model ids, as listed by `posescale models`, or names that per_model explains."""
    controls: list[Name] | None = None
    """Controls that bound every table; those of the task when not set."""
    frames: list[PositiveInt] = Field(default_factory=list)
    """Clip lengths T that models are trained at; the first one is where sizes are measured."""
    size: tuple[Height, Width] | None = None
    """Video: height and width of the crops; each model's own when not set."""
    seeds: list[int] = [0, 1, 2]
    """Seeds; three at least for an interval worth the name."""
    selections: list[Literal["last", "val-best"]] = ["last", "val-best"]
    """Which weights are scored. The test split never selects."""
    conditions: list[Literal["as_is", "own_frame", "shuffled", "other_video"]] = ["as_is"]
    """Video: what a clip's other frames are at test. Models of one frame are scored as they are."""
    training: Training = Training()
    per_model: dict[Name, ModelChoice] = Field(default_factory=dict)
    """Models that differ from the rest: another name, arguments, clip lengths, recipe, changes, pretrained weights."""
    cost: Cost = Cost()
    latency: Latency | None = Latency()
    """None: nothing is timed."""

    @field_validator("controls")
    @classmethod
    def _known_controls(cls, names: list[str] | None) -> list[str] | None:
        for name in names or []:
            _card_of(name)
        return names

    @field_validator("dataset")
    @classmethod
    def _known_dataset(cls, dataset: Dataset | None) -> Dataset | None:
        if dataset is not None:
            try:
                catalog.dataset_card(dataset.name)
            except PosescaleError as error:
                raise ValueError(str(error)) from error
        return dataset

    @model_validator(mode="after")
    def _fits_together(self) -> "Study":
        if not self._names():
            raise ValueError("nothing to do: models is empty, and so are cost.models and latency.models")
        self._check_names()
        self._check_task()
        if self.models and (self.dataset is None or not self.frames):
            raise ValueError("models are trained on a dataset at some clip lengths: give dataset and frames")
        for model in self.models:
            self._check_start(model)
            try:
                self.recipe(model)
            except PosescaleError as error:
                raise ValueError(str(error)) from error
        return self

    def _check_names(self) -> None:
        if stray := set(self.per_model) - {*self.models, *self.measured_models()}:
            raise ValueError(f"per_model names {', '.join(sorted(stray))}, which models does not list")
        for name in self._names():
            if not re.fullmatch("[a-z0-9_]+", name):
                raise ValueError(f"{name!r} names folders: lower-case letters, digits and _ alone, please")
            if _card_of(self.variant(name)).task == "control":
                raise ValueError(f"{name} is a control: list it under controls")

    def _check_task(self) -> None:
        tasks = {name: _card_of(self.variant(name)).task for name in self._names()}
        data = catalog.dataset_card(self.dataset.name).task if self.dataset else None
        for name, task in tasks.items():
            if task != (data or next(iter(tasks.values()))):
                other = f"{self.dataset.name} holds {data} data" if self.dataset else "others here are not"
                raise ValueError(f"{name} is a {task} model, and {other}; a study has one task")
        foreign = {"size": self.size, "conditions": set(self.conditions) - {"as_is"}, "cost.sizes": self.cost.sizes}
        foreign["latency.sizes"] = self.latency.sizes if self.latency else []
        if self.task == "lifting" and (given := [key for key, value in foreign.items() if value]):
            raise ValueError(f"{', '.join(given)}: for video alone; this study's models lift poses")
        for key, section in (("cost", self.cost), ("latency", self.latency)):
            if section and section.sizes and not self.frames:
                raise ValueError(f"{key}.sizes are measured at the first of the study's frames: give frames")

    def _check_start(self, model: str) -> None:
        other = self.choice(model).start_from
        if other is None:
            return
        if other not in self.models or other == model:
            raise ValueError(f"{model} starts from {other}, which models does not list as another one")
        if len(lengths := self.lengths(other)) > 1:
            raise ValueError(
                f"{model} starts from {other}, which is trained at several clip lengths {lengths}; choose one"
            )
        seen, place = [model], other
        while place is not None:
            if place in seen:
                raise ValueError(f"{model} starts from itself, by way of {', '.join(seen[1:])}")
            seen.append(place)
            place = self.choice(place).start_from

    @property
    def task(self) -> Task:
        """The dataset's, or the models' where there are no data."""
        card = catalog.dataset_card(self.dataset.name) if self.dataset else _card_of(self.variant(self._names()[0]))
        return card.task

    def _names(self) -> list[str]:
        return list(dict.fromkeys([*self.models, *self.measured_models()]))

    def choice(self, model: str) -> ModelChoice:
        """What a model does differently."""
        return self.per_model.get(model, ModelChoice())

    def variant(self, model: str) -> str:
        """Id of the model that goes by this name in the study."""
        return self.choice(model).model or model

    def label(self, model: str) -> str:
        """The name, where it is not the model's id."""
        return "" if model == self.variant(model) else model

    def recipe_name(self, model: str) -> str:
        """Name of a model's recipe on its card."""
        return self.choice(model).recipe or self.training.recipe

    def changes(self, model: str) -> dict[str, Any]:
        """What is changed in a model's recipe."""
        start = {"start": "pretrained"} if self.choice(model).start_from else {}
        return self.training.changes | start | self.choice(model).changes

    def recipe(self, model: str) -> Recipe:
        """A model's recipe, with the changes.

        Raises:
            ConfigError: its card has none of that name, or a change does not suit it.
        """
        known = _card_of(self.variant(model)).recipes
        name = self.recipe_name(model)
        if name not in known:
            raise ConfigError(f"{model} has no recipe {name!r}; its card has {', '.join(known) or 'none'}")
        return known[name].override(**self.changes(model))

    def lengths(self, model: str) -> list[int]:
        """A model's clip lengths."""
        return self.choice(model).frames or self.frames

    def cells(self) -> list[tuple[str, int]]:
        """Every model at each of its clip lengths."""
        return [(m, frames) for m in self.models for frames in self.lengths(m)]

    def all_frames(self) -> list[int]:
        """Every clip length that a model is trained at."""
        return sorted({frames for _, frames in self.cells()})

    def controls_scored(self) -> list[tuple[str, int]]:
        """Every control at each clip length that a model is trained at; in video they need neighbours."""
        lengths = self.all_frames()
        if self.task == "video":
            lengths = [t for t in lengths if t > 1] or lengths
        names = CONTROLS[self.task] if self.controls is None else self.controls
        return [(control, t) for control in names for t in lengths]

    def conditions_of(self, frames: int) -> list[str]:
        """The conditions that models of this clip length are scored under: one frame has no others to be replaced."""
        return [c for c in self.conditions if frames > 1 or c == "as_is"]

    def cost_models(self) -> list[str]:
        """Models whose cost is counted."""
        return list(dict.fromkeys([*self.models, *self.cost.models]))

    def latency_models(self) -> list[str]:
        """Models whose latency and memory are measured."""
        return list(dict.fromkeys([*self.models, *self.latency.models])) if self.latency else []

    def measured_models(self) -> list[str]:
        """Models that are measured and not trained."""
        return [m for m in (*self.cost.models, *(self.latency.models if self.latency else ())) if m not in self.models]

    def shapes(self, section: Cost) -> list[str]:
        """Clips that models are measured on, `T` or `TxHxW`: every T at the study's size, every size at its first T."""
        sized = "".join(f"x{side}" for side in self.size or ())
        lengths = LENGTHS[self.task] if section.frames is None else section.frames
        wanted = [f"{t}{sized}" for t in lengths] + [f"{self.frames[0]}x{h}x{w}" for h, w in section.sizes]
        return list(dict.fromkeys(wanted))


def _card_of(name: str) -> Card:
    try:
        return component(name).card
    except PosescaleError as error:
        raise ValueError(str(error)) from error
