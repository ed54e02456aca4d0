"""What is measured: a model by name at a clip length, and inputs of the shape it takes."""

import copy
import inspect
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import nn

from posescale.cards import Component, component
from posescale.errors import PosescaleError
from posescale.models import create_model, network_module

CHECKED_CLIPS = 4  # of a batch whose output is compared with the truth


class Measurable(Protocol):
    """Anything that can be timed.

    Attributes:
        cache: `warm`, or `cold`: the caches are emptied before every timed call.
        repeats: whether calls so short that an event's resolution shows may be timed several at once.
    """

    cache: str
    repeats: bool

    def build(self) -> nn.Module:
        """What is called."""

    def inputs(self, seed: int, device: str) -> tuple[torch.Tensor, ...]:
        """Arguments of one call, float32, on the device."""

    def elements(self) -> int:
        """Numbers in one call's inputs."""

    def truth(self, model: nn.Module, device: str) -> Callable[..., Any]:
        """What the call should have given: takes the same arguments in float32, gives the same outputs."""

    def compared(self, output: Any) -> Sequence[torch.Tensor]:
        """The tensors of an output that are compared with the truth."""

    def frames_out(self, output: Any) -> int:
        """Output frames of one clip."""


@dataclass(frozen=True)
class Subject:
    """A model at one input shape.

    `overrides` go to the constructor as they are; `preferences` (such as which attention kernel) only where the
    constructor has such an argument.
    """

    name: str
    frames: int
    batch: int = 1
    overrides: Mapping[str, Any] = field(default_factory=dict)
    preferences: Mapping[str, Any] = field(default_factory=dict)
    cache = "warm"
    repeats = False

    @property
    def component(self) -> Component:
        """The component that declares the model."""
        return component(self.name)

    def chosen(self) -> dict[str, Any]:
        """Arguments given to `create_model` on top of the card's."""
        known = self._signature()
        wanted = {"frames": self.frames, **self.preferences}
        return {key: value for key, value in wanted.items() if key in known} | dict(self.overrides)

    def arguments(self) -> dict[str, Any]:
        """Every constructor argument: defaults, then the card's, then those chosen here."""
        defaults = {k: p.default for k, p in self._signature().items() if p.default is not p.empty}
        return defaults | self.component.parameters | self.chosen()

    def build(self) -> nn.Module:
        """The model in evaluation mode, initialised from a fixed seed; the caller's random state is left alone."""
        with fixed_seed(0):
            return create_model(self.name, **self.chosen()).eval()

    def shape(self) -> tuple[int, ...]:
        """`(B, T, J, 3)` of a lifting model, `(B, T, 3, H, W)` of a video model."""
        arguments = self.arguments()
        if self.component.card.task == "video":
            return self.batch, self.frames, 3, arguments["height"], arguments["width"]
        return self.batch, self.frames, arguments.get("joints", 17), 3

    def inputs(self, seed: int, device: str) -> tuple[torch.Tensor, ...]:
        """The model's one argument."""
        return (self.draw(seed).to(device),)

    def elements(self) -> int:
        """Numbers in one input."""
        return math.prod(self.shape())

    def truth(self, model: nn.Module, device: str) -> Callable[..., Any]:
        """A fresh float32 copy for every call, so that nothing the model keeps can be mistaken for the truth."""
        reference = copy.deepcopy(model).to(device)
        return lambda x: copy.deepcopy(reference)(x[:CHECKED_CLIPS])

    def compared(self, output: Any) -> Sequence[torch.Tensor]:
        """The first tensor's first clips: a whole batch in float32 may not fit where one in bfloat16 does."""
        return [_first(output)[:CHECKED_CLIPS]]

    def frames_out(self, output: Any) -> int:
        """T, or 1 for a model that answers for one frame."""
        tensor = _first(output)
        return tensor.shape[1] if tensor.ndim == 4 and tensor.shape[-1] == 3 else 1

    def draw(self, seed: int) -> torch.Tensor:
        """One input: smooth random motion on the screen with confidences, or standardised random images."""
        generator = torch.Generator().manual_seed(seed)
        if self.component.card.task == "video":
            return torch.randn(self.shape(), generator=generator)
        return _motion(self.shape(), generator)

    def _signature(self) -> Mapping[str, inspect.Parameter]:
        build = getattr(network_module(self.component.folder), self.component.card.network)
        return inspect.signature(build).parameters


def _first(output: Any) -> torch.Tensor:
    return output if isinstance(output, torch.Tensor) else _first(next(iter(output)))


def _motion(shape: tuple[int, ...], generator: torch.Generator) -> torch.Tensor:
    batch, frames, joints, _ = shape

    def uniform(*size: int) -> torch.Tensor:
        return torch.rand(size, generator=generator)

    time = torch.arange(frames).view(1, frames, 1, 1) / 50  # seconds
    swing = torch.sin(2 * math.pi * (time * (0.3 + 2 * uniform(batch, 1, joints, 2)) + uniform(batch, 1, joints, 2)))
    screen = uniform(batch, 1, joints, 2) - 0.5 + 0.2 * swing
    return torch.cat([screen, 0.5 + 0.5 * uniform(batch, frames, joints, 1)], dim=-1)


@contextmanager
def fixed_seed(seed: int) -> Iterator[None]:
    """Draw from a fixed seed inside, and give the caller's random state back."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        yield


def refusal(error: Exception) -> str | None:
    """The model's own words when an exception says that it does not take this shape or option, else None."""
    understood = isinstance(error, (PosescaleError, ValueError, NotImplementedError))
    return (str(error) or type(error).__name__) if understood else None
