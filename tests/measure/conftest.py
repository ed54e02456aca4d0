"""Toy components in a folder outside the repository, found through POSESCALE_COMPONENTS."""

import os
import textwrap
from pathlib import Path

import pytest

NETWORK = '''
import os
import time

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from posescale.layers import Attention
from posescale.ops import multi_scan, selective_scan


class Toy(nn.Module):
    """(B, T, J, 3) to (B, T, J, 3), with one of many habits."""

    def __init__(self, frames=81, joints=17, dim=8, kind="mlp", attention="fused", heads=2):
        super().__init__()
        if kind == "refuses" and frames > 9:
            raise ValueError(f"Toy takes at most 9 frames, found {frames}")
        if kind == "flags":
            torch.backends.cudnn.benchmark = not torch.backends.cudnn.benchmark
        self.kind, self.calls, self.kept = kind, 0, None
        self.embed = nn.Linear(3, dim)
        self.position = nn.Parameter(torch.zeros(1, joints, dim))
        self.attention = Attention(dim, heads, kernel=attention) if kind == "attention" else None
        self.norm = nn.LayerNorm(dim)
        self.head = nn.Linear(dim, 3)

    def forward(self, x):
        h = self.norm(self.embed(x) + self.position)
        if self.attention is not None:
            h = h + self.attention(h.transpose(1, 2)).transpose(1, 2)
        return getattr(self, "_" + self.kind, lambda h: self.head(h))(h)

    def _uncounted(self, h):
        return self.head(torch.cdist(h, h) @ h)

    def _numpy(self, h):
        return torch.from_numpy(h.detach().numpy() ** 2) @ self.head.weight.t()

    def _caches(self, h):
        self.kept = self.head(h) if self.kept is None else self.kept
        return self.kept

    def _frame(self, h):
        return self.head(h[:, h.shape[1] // 2 :][:, :1])

    def _hungry(self, h):
        return self.head(h) + torch.zeros(2**30 * h.shape[1]).sum()

    def _bulky(self, h):
        return self.head(h) + torch.ones(24 * 2**18 * h.shape[1]).sum()

    def _dies(self, h):
        os.abort()

    def _raises(self, h):
        raise RuntimeError("a bug of its own")

    def _hangs(self, h):
        time.sleep(60)

    def _prints(self, h):
        print('{"event": "end"}', flush=True)
        return self.head(h)
'''

CARD = """
id: toy
title: Toy
task: lifting
summary: for tests
network: Toy
variants:
{variants}
cost:
  symbols:
    tokens: T * J
  contractions: tokens * (3 * dim + 3 * dim)
  parameters: 4 * dim + J * dim + 2 * dim + 3 * (dim + 1)
"""

KINDS = ("mlp", "uncounted", "numpy", "caches", "frame", "hungry", "bulky", "dies", "raises", "hangs", "prints",
         "refuses", "flags", "attention")  # fmt: skip

ATTENDING = """
id: toy_attention
title: Toy with attention over frames
task: lifting
summary: for tests
network: Toy
variants:
  toy_attending: {parameters: {kind: attention}}
  toy_wrong: {parameters: {kind: attention, dim: 12}, note: its closed form holds for dim 8 only}
cost:
  symbols: {n: T * J}
  contractions: n * (6 * dim + 4 * dim * 8) + 2 * J * dim * T ** 2
  parameters: 4 * dim + J * dim + 2 * dim + 3 * (dim + 1) + 4 * dim * dim + 4 * dim
"""


def write_component(root: Path, name: str, card: str, network: str) -> None:
    folder = root / name
    folder.mkdir(parents=True)
    (folder / "card.yaml").write_text(textwrap.dedent(card))
    (folder / "network.py").write_text(network)


@pytest.fixture(scope="module")
def toys(tmp_path_factory):
    root = tmp_path_factory.mktemp("components")
    variants = "\n".join(f"  toy_{kind}: {{parameters: {{kind: {kind}}}}}" for kind in KINDS)
    write_component(root, "toy", CARD.format(variants=variants), NETWORK)
    write_component(root, "toy_attention", ATTENDING, NETWORK)
    before = os.environ.get("POSESCALE_COMPONENTS")
    os.environ["POSESCALE_COMPONENTS"] = str(root)
    yield root
    os.environ.pop("POSESCALE_COMPONENTS")
    if before is not None:
        os.environ["POSESCALE_COMPONENTS"] = before
