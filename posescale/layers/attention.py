"""Multi-head self-attention, fused or naive: the same numbers, different cost."""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import nn

from posescale.errors import ConfigError

Kernel = Literal["fused", "naive"]


class Attention(nn.Module):
    """softmax(q k^T d^-1/2) v over N tokens, `(..., N, C)` to `(..., N, C)`.

    `qkv` gives q, k, v in that order, each as H heads of d = C / H channels.

    Args:
        channels: C.
        heads: H.
        qkv_bias: whether `qkv` has a bias.
        kernel: `fused` calls PyTorch's scaled_dot_product_attention; `naive` materialises the `(N, N)` map, as the
            official lifting models do.

    Raises:
        ConfigError: C is no multiple of H, or the kernel is unknown.
    """

    def __init__(self, channels: int, heads: int, qkv_bias: bool = True, kernel: Kernel = "fused") -> None:
        super().__init__()
        if channels % heads:
            raise ConfigError(f"channels ({channels}) must be a multiple of heads ({heads})")
        if kernel not in ("fused", "naive"):
            raise ConfigError(f"attention must be 'fused' or 'naive', found {kernel!r}")
        self.heads, self.kernel = heads, kernel
        self.qkv = nn.Linear(channels, 3 * channels, bias=qkv_bias)
        self.proj = nn.Linear(channels, channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Attend over the last but one axis of `(..., N, C)`; the same shape comes back."""
        *batch, n, c = x.shape
        qkv = self.qkv(x).reshape(-1, n, 3, self.heads, c // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)  # (batch, H, N, d) each
        y = F.scaled_dot_product_attention(q, k, v) if self.kernel == "fused" else naive_attention(q, k, v)
        return self.proj(y.transpose(1, 2).reshape(*batch, n, c))


def naive_attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """Attention with its `(N, N)` map in memory; q, k, v and the result are `(..., N, d)`."""
    scores = q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5
    return scores.softmax(dim=-1) @ v
