"""What the video training tests train: a toy component, and people made of fifteen coloured dots that drift."""

import cv2
import numpy as np

from posescale.data.video.prepared import Frame, Video, VideoPart, person_dtype, write_video_data
from posescale.data.video.skeletons import STATES

SIZE = 48  # pixels of the image and of the crop
CLIPS = [("a", "train"), ("b", "train"), ("c", "val"), ("d", "test"), ("e", "test")]
COLOURS = np.array([(r, g, b) for r in (0, 128, 255) for g in (0, 128, 255) for b in (60, 255)][:15], np.uint8)

NETWORK = """
import torch
from torch import nn


class Dots(nn.Module):
    def __init__(self, frames: int = 3, height: int = 48, width: int = 48, joints: int = 15, channels: int = 24,
                 frozen: bool = False, explode: int = 0):
        super().__init__()
        self.first = nn.Conv2d(3 * frames, channels, 7, stride=4, padding=3)
        self.norm, self.drop = nn.BatchNorm2d(channels), nn.Dropout(0.05)
        self.second = nn.Conv2d(channels, channels, 5, padding=2)
        self.last = nn.Conv2d(channels, joints, 3, padding=1)
        self.explode, self.calls = explode, 0
        self.first.requires_grad_(not frozen)

    def forward(self, x):
        self.calls += self.training
        h = torch.relu(self.norm(self.first(x.flatten(1, 2))))
        y = self.last(torch.relu(self.second(self.drop(h))))
        return y * float("inf") if self.explode and self.calls + (not self.training) > self.explode else y

    def start_from(self, state):
        self.first.load_state_dict({k.removeprefix("first."): v for k, v in state.items() if k.startswith("first.")})
"""

CARD = """
id: dots
title: Dots
task: video
summary: Two convolutions over all frames at once.
network: Dots
output: seq2frame
variants:
  dots: {parameters: {frames: 3, height: 48, width: 48, joints: 15}}
  dots_frozen: {parameters: {frames: 3, height: 48, width: 48, joints: 15, frozen: true}}
recipes:
  small:
    {lr: 0.002, lr_decay: 1.0, epochs: 3, batch: 8, steps_per_epoch: 5, flip: 0.0,
     crops: {sigma: 1.0, rotation: 0.0, half_body: 0.0}}
"""


def dots(rng, frames):
    """Joints (F, 15, 2) on a jittered grid, drifting together."""
    grid = np.stack(np.meshgrid(np.arange(4), np.arange(4)), -1).reshape(-1, 2)[:15] * 8.0 + 12
    drift = rng.normal(0, 1, 2)[None] * np.arange(frames)[:, None] * 0.4
    return grid[None] + rng.normal(0, 1.5, (1, 15, 2)) + drift[:, None]


def write_dots(folder, clips=CLIPS, frames=6, hidden=True):
    """A prepared folder. In every third frame the first three joints are behind something; the drift tells them."""
    parts = []
    for number, (name, split) in enumerate(clips):
        rng = np.random.default_rng(number)
        joints, people = dots(rng, frames), np.zeros(frames, person_dtype(15))
        files = []
        for t in range(frames):
            image = np.full((SIZE, SIZE, 3), 30, np.uint8)
            for j, (x, y) in enumerate(joints[t]):
                if not (hidden and t % 3 == 1 and j < 3):
                    cv2.circle(image, (round(x), round(y)), 2, COLOURS[j].tolist(), -1)
            path = folder / "frames" / name / f"{t:06d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(path), image[..., ::-1])
            files.append(Frame(file=f"{name}/{t:06d}.png", number=t, id=10_000_000 * number + t, labelled=True))
            people[t]["frame"], people[t]["box"] = t, [5, 5, 38, 38]
            people[t]["joints"], people[t]["annotated"] = joints[t], 1
            people[t]["head"] = [10, 10, 6, 8]
            people[t]["state"] = STATES.index("visible")
            if hidden and t % 3 == 1:
                people[t]["state"][:3] = STATES.index("occluder")
        video = Video(name=name, split=split, width=SIZE, height=SIZE, start=0, frames=files)
        parts.append(VideoPart(video, people))
    write_video_data(
        folder / "data", parts, dataset="dots", protocol="posetrack_gt_boxes", settings={}, fps=25.0,
        skeleton="posetrack15", reported="test", root=str(folder / "frames"),
    )  # fmt: skip
    return folder / "data"
