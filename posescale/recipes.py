"""Training recipes: a paper's losses, optimiser and schedule as data."""

from typing import Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    ValidationError,
)

from posescale.errors import ConfigError


class LossWeights(BaseModel):
    """Weights of the loss terms; a term of weight zero is not computed (terms: `posescale.train.losses`)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    mpjpe: NonNegativeFloat = 1.0
    weighted_mpjpe: NonNegativeFloat = 0.0
    n_mpjpe: NonNegativeFloat = 0.0
    velocity: NonNegativeFloat = 0.0
    weighted_difference: NonNegativeFloat = 0.0


class Crops(BaseModel):
    """How a video model's person crops vary in training, and what its heat maps look like.

    The numbers of variation are those of the DCPose line (`posescale.data.video.augment`); mirroring is the recipe's
    `flip`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    sigma: PositiveFloat = 2.0  # of the targets, heat-map pixels
    scale: float = Field(default=0.35, ge=0, lt=1)
    rotation: float = Field(default=45.0, ge=0, le=90)
    rotation_share: float = Field(default=0.6, ge=0, le=1)
    half_body: float = Field(default=0.3, ge=0, le=1)


class Recipe(BaseModel):
    """How a model is trained.

    One epoch is `steps_per_epoch` optimiser steps, or one pass over all training clips when that is not set.
    The learning rate rises linearly over the first `warmup` steps, is multiplied by `lr_decay` after every epoch, and
    by a tenth after each of the epochs in `lr_drops`; a checkpoint is written at the end of each epoch.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    losses: LossWeights = LossWeights()
    optimizer: Literal["adamw", "adam", "adam_amsgrad"] = "adamw"
    lr: PositiveFloat = 2e-4
    weight_decay: NonNegativeFloat = 0.01
    lr_decay: PositiveFloat = 0.99
    lr_drops: tuple[PositiveInt, ...] = ()  # epochs, counted from 1, after which a tenth is left
    warmup: NonNegativeInt = 0  # optimiser steps
    epochs: PositiveInt = 120
    steps_per_epoch: PositiveInt | None = None
    batch: PositiveInt = 4
    stride: PositiveInt | None = None  # frames between training windows; T // 3 when not set
    flip: float = Field(default=0.5, ge=0, le=1)  # probability of mirroring a clip
    ema: float | None = Field(default=None, gt=0, lt=1)  # decay of averaged weights, with a warm-up
    gradient_clip: PositiveFloat | None = None
    accumulate: PositiveInt = 1
    precision: Literal["32-true", "64-true", "bf16-mixed", "16-mixed"] = "32-true"
    crops: Crops | None = None  # of video models; their loss is that of heat maps, so `losses` is not read
    note: str = ""

    def rate(self, epoch: int, step: int) -> float:
        """The learning rate of optimiser step `step` (from 0, over the whole run), in epoch `epoch` (from 0)."""
        rising = min(1.0, (step + 1) / self.warmup) if self.warmup else 1.0
        return rising * self.lr * self.lr_decay**epoch * 0.1 ** sum(epoch >= drop for drop in self.lr_drops)

    def override(self, **changes: Any) -> "Recipe":
        """A copy with some fields replaced, checked like the original.

        Raises:
            ConfigError: for an unknown field or a value of the wrong type.
        """
        try:
            return Recipe.model_validate(self.model_dump() | changes)
        except ValidationError as error:
            wrong = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
            raise ConfigError(f"recipe: {wrong}. Fields: {', '.join(Recipe.model_fields)}") from error
