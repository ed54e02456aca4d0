"""The processes that train one model together: each takes its clips of every batch, gradients are averaged.

The first process is the one that was started by hand; it starts the others on this machine, one per device, and they
end with it, however it ends. Only the first one writes.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from lightning.fabric.plugins.environments import LightningEnvironment
from lightning.fabric.plugins.environments.lightning import find_free_network_port
from lightning.pytorch.strategies import DDPStrategy
from torch import distributed, nn

from posescale import lifeline
from posescale.errors import PosescaleError

MODULE = "posescale.train.helper"  # what a helper runs
READY = "ready"  # what a helper prints when it is about to meet the others


class HelperLost(PosescaleError):
    """A process that trained along has ended too early."""


@dataclass(frozen=True)
class Team:
    """One process's place among those that train together; alone when nothing is given.

    Attributes:
        rank: 0 for the process that leads.
        world: how many there are.
        port: on this machine, where they meet.
    """

    rank: int = 0
    world: int = 1
    port: int = 0

    def mean(self, value: torch.Tensor) -> torch.Tensor:
        """The mean of a number over all processes."""
        if self.world == 1:
            return value
        together = value.clone()
        distributed.all_reduce(together)
        return together / self.world

    def sum(self, *values: float) -> list[float]:
        """The sums of some numbers over all processes."""
        if self.world == 1:
            return list(values)
        device = "cuda" if distributed.get_backend() == "nccl" else "cpu"
        together = torch.tensor(values, dtype=torch.float64, device=device)
        distributed.all_reduce(together)
        return together.tolist()

    def share_buffers(self, module: nn.Module) -> None:
        """Copy the first process's buffers to the others."""
        if self.world > 1:
            for buffer in module.buffers():
                distributed.broadcast(buffer, src=0)

    def strategy(self, device: str) -> DDPStrategy | str:
        """How Lightning trains with it."""
        if self.world == 1:
            return "auto"
        backend = "nccl" if device == "cuda" else "gloo"
        return DDPStrategy(cluster_environment=_Meeting(self), process_group_backend=backend)


class _Meeting(LightningEnvironment):
    """Where processes meet that were not started by Lightning; reads no environment variable."""

    def __init__(self, team: Team) -> None:
        super().__init__()
        self.team = team
        self._main_port = team.port

    @property
    def creates_processes_externally(self) -> bool:
        return True

    @property
    def main_address(self) -> str:
        return "127.0.0.1"

    def local_rank(self) -> int:
        return self.team.rank

    def node_rank(self) -> int:
        return 0

    def teardown(self) -> None:
        pass


@contextmanager
def assembled(world: int, job: dict[str, Any]) -> Iterator[Team]:
    """Start the other processes of a team, each of which does its part of `job`; this process leads.

    Args:
        world: how many processes, this one included.
        job: what `posescale.train.fit.help_with` takes, as JSON can say it.

    Raises:
        HelperLost: a process ended before it was ready, or while the work in this block failed; with its last words.
    """
    if world == 1:
        yield Team()
        return
    team = Team(0, world, find_free_network_port())
    helpers = [_Helper(Team(rank, world, team.port), job) for rank in range(1, world)]
    try:
        for rank, helper in enumerate(helpers, start=1):
            if helper.stdout.readline().strip() != READY:
                raise HelperLost(_last_words(rank, helper))
        yield team
    except RuntimeError as error:  # a collective operation fails when another process is gone
        for rank, helper in enumerate(helpers, start=1):
            if _failed(helper):
                raise HelperLost(_last_words(rank, helper)) from error
        raise
    finally:
        for helper in helpers:
            helper.kill()
            helper.wait()
            helper.stdout.close()
            helper.words.close()
        if distributed.is_initialized():
            distributed.destroy_process_group()


class _Helper(subprocess.Popen):
    """A process of a team; what it says goes to a file, which cannot fill up as a pipe does."""

    def __init__(self, team: Team, job: dict[str, Any]) -> None:
        self.words = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")
        super().__init__(
            [sys.executable, "-m", MODULE],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.words, text=True,
            env={**os.environ, lifeline.VARIABLE: lifeline.address()},
        )  # fmt: skip
        with self.stdin as stream:
            stream.write(json.dumps({"team": vars(team), "job": job}))


def _failed(helper: _Helper) -> bool:
    try:
        return helper.wait(timeout=5) != 0
    except subprocess.TimeoutExpired:
        return False


def _last_words(rank: int, helper: _Helper) -> str:
    helper.kill()
    status = helper.wait()
    helper.words.seek(0)
    words = helper.words.read().strip().splitlines()
    return f"process {rank + 1} of the training ended with status {status}: {words[-1] if words else 'no word'}"
