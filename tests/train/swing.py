"""What the training tests train: a toy component and prepared data of a swinging skeleton."""

import numpy as np

from posescale.data.prepared import Clip, write_prepared
from posescale.recipes import LossWeights, Recipe

RECIPE = Recipe(losses=LossWeights(mpjpe=1.0, velocity=0.5), lr=0.01, epochs=3, batch=8, steps_per_epoch=5)
PARENTS = [-1, 0, 1, 2, 0, 4, 5, 0, 7, 8, 9, 8, 11, 12, 8, 14, 15]
LEFT, RIGHT = [4, 5, 6, 11, 12, 13], [1, 2, 3, 14, 15, 16]

NETWORK = """
import torch
from torch import nn


class Toy(nn.Module):
    def __init__(self, frames: int = 9, width: int = 16, single: bool = False, drop: float = 0.1, explode: int = 0,
                 norm: bool = True):
        super().__init__()
        self.first, self.norm = nn.Linear(3 * 17, width), nn.BatchNorm1d(width) if norm else nn.Identity()
        self.drop, self.last = nn.Dropout(drop), nn.Linear(width, 3 * 17)
        self.frames, self.single, self.explode, self.calls = frames, single, explode, 0

    def forward(self, x):
        self.calls += self.training
        h = self.norm(self.first(x.flatten(2)).transpose(1, 2)).transpose(1, 2)
        y = self.last(self.drop(torch.tanh(h))).unflatten(-1, (17, 3))
        if self.explode and self.calls + (not self.training) > self.explode:
            y = y * float("inf")
        return y[:, y.shape[1] // 2 :][:, :1] if self.single else y
"""

CARD = """
id: toy
title: Toy
task: lifting
summary: A per-frame perceptron with batch norm and dropout.
network: Toy
{output}
variants:
  {name}: {{parameters: {{frames: 9, single: {single}}}}}
recipes:
  small:
    {{losses: {{mpjpe: 1.0, velocity: 0.5}}, lr: 0.01, epochs: 3, batch: 8, steps_per_epoch: 5}}
"""


def make_clip(name, split, action, length, seed, subject="S1"):
    """A swinging skeleton seen by one camera, with noisy detections."""
    rng = np.random.default_rng(seed)
    rest = np.random.default_rng(99).normal(scale=0.4, size=(17, 3))
    time = np.arange(length)[:, None, None]
    swing = 0.2 * np.sin(2 * np.pi * time / 30 + rng.uniform(0, 6, (1, 17, 3)))
    poses = rest + swing + np.array([0.1, 0.0, 5.0])
    exact = 500 + 1145 * poses[..., :2] / poses[..., 2:]
    noisy = exact + rng.normal(scale=3, size=exact.shape)
    detections = np.concatenate([noisy, rng.uniform(0.5, 1, (length, 17, 1))], axis=-1)
    arrays = {"poses": poses, "exact": exact, "detections": detections}
    return Clip(
        name=name, subject=subject, action=action, camera="c0", split=split, width=1000, height=1000,
        **{key: value.astype(np.float32) for key, value in arrays.items()},
    )  # fmt: skip


CLIPS = [
    ("train/a", "train", "walk", 70, 0), ("train/b", "train", "wave", 41, 1), ("val/a", "val", "walk", 30, 2),
    ("test/long", "test", "walk", 50, 3), ("test/other", "test", "walk", 23, 4), ("test/short", "test", "wave", 5, 5),
]  # fmt: skip


def write_data(folder, clips=CLIPS):
    """Prepared data of the given clips."""
    write_prepared(
        folder, [make_clip(*clip) for clip in clips], dataset="swing", protocol="cmu_cam", settings={}, fps=30.0,
        joints=[f"joint{j}" for j in range(17)], parents=PARENTS, left=LEFT, right=RIGHT,
    )  # fmt: skip
    return folder
