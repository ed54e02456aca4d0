"""The two-layer perceptron of transformers and state-space blocks."""

import torch
from torch import nn


class Mlp(nn.Module):
    """`fc2(GELU(fc1(x)))`, exact (erf) GELU, `(..., C)` to `(..., C)`; the hidden width is `ratio * C`."""

    def __init__(self, channels: int, ratio: float) -> None:
        super().__init__()
        hidden = int(channels * ratio)
        self.fc1 = nn.Linear(channels, hidden)
        self.act = nn.GELU()
        self.fc2 = nn.Linear(hidden, channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map `(..., C)` to `(..., C)`."""
        return self.fc2(self.act(self.fc1(x)))
