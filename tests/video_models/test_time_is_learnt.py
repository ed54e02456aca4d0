"""A block must learn within seconds to see in the key frame what only the other frames show."""

import pytest
import torch
from torch import nn

from posescale.cards import component
from posescale.layers.global_local import ChannelAttention, GatedBlock, sine_cosine_grid
from posescale.layers.s6 import S6Paths
from posescale.models import network_module

T, H, W, D, JOINTS = 5, 8, 6, 32, 8
GRID = T, H, W
OTHERS = [t for t in range(T) if t != T // 2]


def mixer(name: str) -> nn.Module:
    if name == "divided":
        return network_module(component("glsformer_d_tiny").folder).Divided(D, 16, 4, "fused")
    glsmamba = network_module(component("glsmamba_tiny").folder)
    return glsmamba.STS6D(GRID, S6Paths(D, 2, 8, 6, dt_max=1.0), "h_flip_v", name, "stream", 4)


def learn(name: str, steps: int) -> tuple[float, float]:
    """Share of the loss left for joints that the key frame hides; the same with the neighbours of other clips."""
    torch.manual_seed(0)
    block = GatedBlock(D, 1, 2, mixer(name), ChannelAttention(T, D, 8))
    norm, head, marks = nn.LayerNorm(D), nn.Linear(D, JOINTS), torch.randn(JOINTS, D)
    places = sine_cosine_grid(H, W, D) + 0.02 * torch.randn(T, 1, 1, D)
    optimizer = torch.optim.AdamW([*block.parameters(), *norm.parameters(), *head.parameters()], 1e-2)

    def loss(maps: torch.Tensor, shown: torch.Tensor) -> torch.Tensor:
        clip = places.repeat(len(maps), 1, 1, 1, 1)
        clip[:, OTHERS] += 2 * torch.einsum("bkhw,kd->bhwd", shown, marks)[:, None]
        found = head(norm(block(clip)))[:, T // 2]
        return (found.permute(0, 3, 1, 2) - maps).square().mean() / maps.square().mean()

    def draw() -> torch.Tensor:
        maps = torch.zeros(16, JOINTS, H * W)
        return maps.scatter_(2, torch.randint(0, H * W, (16, JOINTS, 1)), 1.0).unflatten(2, (H, W))

    for _ in range(steps):
        maps = draw()
        optimizer.zero_grad()
        loss(maps, maps).backward()
        optimizer.step()
    maps = draw()
    with torch.no_grad():
        return loss(maps, maps).item(), loss(maps, maps.roll(1, 0)).item()


@pytest.mark.parametrize("name", ["stmm", "sum", "divided"])
def test_block_learns_what_only_the_other_frames_show(name: str) -> None:
    right, wrong = learn(name, 200)
    assert right < 0.5, f"{right:.2f} of the loss is left; the key frame alone leaves 1"
    assert wrong > 1, "other people's neighbours must not help"
