"""Training recipes: a paper's losses, optimiser and schedule as data."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, NonNegativeFloat, PositiveFloat, PositiveInt, ValidationError

from posescale.errors import ConfigError


class LossWeights(BaseModel):
    """Weights of the loss terms; a term of weight zero is not computed (terms: `posescale.train.losses`)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    mpjpe: NonNegativeFloat = 1.0
    weighted_mpjpe: NonNegativeFloat = 0.0
    n_mpjpe: NonNegativeFloat = 0.0
    velocity: NonNegativeFloat = 0.0
    weighted_difference: NonNegativeFloat = 0.0


class Recipe(BaseModel):
    """How a model is trained.

    One epoch is `steps_per_epoch` optimiser steps, or one pass over all training windows when that is not set.
    The learning rate is multiplied by `lr_decay` after every epoch; a checkpoint is written at its end.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    losses: LossWeights = LossWeights()
    optimizer: Literal["adamw", "adam", "adam_amsgrad"] = "adamw"
    lr: PositiveFloat = 2e-4
    weight_decay: NonNegativeFloat = 0.01
    lr_decay: PositiveFloat = 0.99
    epochs: PositiveInt = 120
    steps_per_epoch: PositiveInt | None = None
    batch: PositiveInt = 4
    stride: PositiveInt | None = None  # frames between training windows; T // 3 when not set
    flip: float = Field(default=0.5, ge=0, le=1)  # probability of mirroring a clip
    ema: float | None = Field(default=None, gt=0, lt=1)  # decay of averaged weights, with a warm-up
    gradient_clip: PositiveFloat | None = None
    accumulate: PositiveInt = 1
    precision: Literal["32-true", "64-true", "bf16-mixed", "16-mixed"] = "32-true"
    note: str = ""

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
