"""Training recipes: a paper's losses, optimiser and schedule as data."""

from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    ValidationError,
    model_validator,
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

    One epoch is `steps_per_epoch` optimiser steps, or one pass over all training clips when that is not set. The
    learning rate rises linearly over the first `warmup` steps, is multiplied by `lr_decay` after every epoch, and by a
    tenth after each of the epochs in `lr_drops`; a checkpoint is written at the end of each epoch.

    Attributes:
        origin: whose it is: the authors' released code (`official`), read from their paper where no code tells
            (`inferred`), or ours.
        protocol: whose labels and 2D input the model is taught (`posescale.metrics.protocols`); loss weights belong to
            the labels' unit. The data's own when not given.
        start: where the weights come from: at random, or from a file of pretrained ones that training must be given.
        windows: how sequences are cut into clips (`posescale.data.clips`).
        stride: frames between training windows, for the rules that have one; T // 3 when not given.
        flip: the probability of mirroring a clip, or `doubling`: every clip is shown twice in each pass, once mirrored.
        batch: clips per step, over all processes.
        batch_frames: frames per step instead, from which the batch follows: batch_frames // T clips.
        accumulate: batches whose gradients make one step.
        objective: what is differentiated: the loss L, or L^2 / 2, whose gradient is L times that of L (MixSTE's code).
        optimizer: `adam` and `adam_amsgrad` add the weight decay to the gradient, `adamw` does not.
        batch_norm: with several processes, what a batch norm sees: `one_process` refuses to train such a model,
            `per_process` normalises by each process's own clips, `synchronised` by all (GPUs only).
        norm_momentum: batch norms' momentum in the first epoch, and the value that it would reach after the last one,
            falling exponentially; PyTorch's constant 0.1 when not given.
        ema: decay of averaged weights, which are then what is kept, with a warm-up.
        crops: of video models; their loss is that of heat maps, so `losses` is not read.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    origin: Literal["official", "inferred", "ours"] = "ours"
    protocol: str | None = None
    start: Literal["random", "pretrained"] = "random"
    losses: LossWeights = LossWeights()
    objective: Literal["loss", "half_squared_loss"] = "loss"
    optimizer: Literal["adamw", "adam", "adam_amsgrad"] = "adamw"
    lr: PositiveFloat = 2e-4
    weight_decay: NonNegativeFloat = 0.01
    lr_decay: PositiveFloat = 0.99
    lr_drops: tuple[PositiveInt, ...] = ()  # epochs, counted from 1, after which a tenth is left
    warmup: NonNegativeInt = 0  # optimiser steps
    epochs: PositiveInt = 120
    steps_per_epoch: PositiveInt | None = None
    batch: PositiveInt = 4
    batch_frames: PositiveInt | None = None
    accumulate: PositiveInt = 1
    windows: Literal["strided", "official_clips", "tail_resampled", "chunks", "centred_valid"] = "strided"
    stride: PositiveInt | None = None
    flip: Annotated[float, Field(ge=0, le=1)] | Literal["doubling"] = 0.5
    batch_norm: Literal["one_process", "per_process", "synchronised"] = "one_process"
    norm_momentum: tuple[PositiveFloat, PositiveFloat] | None = None
    ema: float | None = Field(default=None, gt=0, lt=1)
    gradient_clip: PositiveFloat | None = None
    precision: Literal["32-true", "64-true", "bf16-mixed", "16-mixed"] = "32-true"
    crops: Crops | None = None
    note: str = ""

    @model_validator(mode="after")
    def _one_batch_per_squared_loss(self) -> "Recipe":
        if self.objective == "half_squared_loss" and self.accumulate > 1:
            raise ValueError(
                "objective half_squared_loss squares the loss of a whole batch, so it cannot be accumulated over "
                f"{self.accumulate} parts; set accumulate to 1"
            )
        return self

    def at(self, frames: int) -> "Recipe":
        """The recipe for clips of so many frames: batch and stride as numbers.

        Raises:
            ConfigError: a batch would hold no clip.
        """
        stride = self.stride or (frames if self.windows == "chunks" else max(1, frames // 3))
        if self.batch_frames is None:
            return self.override(stride=stride)
        if self.batch_frames < frames:
            raise ConfigError(f"recipe: a batch of {self.batch_frames} frames holds no clip of {frames}")
        return self.override(stride=stride, batch=self.batch_frames // frames, batch_frames=None)

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
