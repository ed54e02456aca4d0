"""Stochastic depth (Huang et al., 2016), per sample."""

import torch
from torch import nn


class DropPath(nn.Module):
    """In training, zero a whole sample's branch with probability `rate` and divide the kept ones by `1 - rate`."""

    def __init__(self, rate: float = 0.0) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map `(B, ...)` to the same shape; the identity in evaluation or at rate 0."""
        if self.rate == 0.0 or not self.training:
            return x
        keep = 1.0 - self.rate
        mask = x.new_empty((x.shape[0],) + (1,) * (x.ndim - 1)).bernoulli_(keep)
        return x * (mask / keep)

    def extra_repr(self) -> str:
        """Shown in the module's printout."""
        return f"rate={self.rate:.3f}"
