import runpy
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from posescale.models import create_model

_fill = runpy.run_path(str(Path(__file__).resolve().parent.parent / "goldens" / "fill.py"))["fill_"]


@pytest.fixture(scope="session")
def build() -> Callable[..., torch.nn.Module]:
    """A float64 model in evaluation mode, every entry filled by its name: the same weights for the same names."""

    def built(name: str, **overrides) -> torch.nn.Module:
        model = create_model(name, **overrides).double().eval()
        _fill(model, "rivals")
        return model

    return built


@pytest.fixture
def clip() -> Callable[..., torch.Tensor]:
    """Random key points (B, T, 17, 3) in float64."""

    def drawn(frames: int, batch: int = 2, seed: int = 0) -> torch.Tensor:
        generator = torch.Generator().manual_seed(seed)
        return torch.rand(batch, frames, 17, 3, generator=generator, dtype=torch.float64) * 2 - 1

    return drawn
