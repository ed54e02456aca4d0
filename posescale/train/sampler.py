"""Which windows a batch holds and which of them are mirrored: pure functions of seed, epoch and place in the epoch.

No state is carried from batch to batch, so a run resumed at the end of an epoch goes on exactly as it would have; and
nothing depends on how many processes share a batch.
"""

from collections.abc import Iterator
from typing import Literal

import numpy as np
import torch
from torch.utils.data import Dataset, Sampler

from posescale.data.windows import Batch, ClipWindows, mirror

ORDER, FLIP, MODEL = range(3)  # separate streams of random numbers


def stream(kind: int, seed: int, *place: int) -> np.random.Generator:
    """The random numbers of one kind at one place (a pass, an epoch, a process) of the run with this seed."""
    return np.random.default_rng([kind, seed, *place])


class EpochBatches(Sampler[list[int]]):
    """Batches of entries for one epoch after another. Entry n < count is window n, entry count + n its mirror image.

    Without `steps` an epoch is one pass over all windows in a new order, its last batch perhaps smaller. With `steps`
    it is so many full batches, cut from an endless run of passes, so that no window is seen twice before all are
    seen once.

    Args:
        count: number of windows.
        batch: windows per batch, over all processes.
        seed: of the run.
        steps: batches per epoch, or None for one pass.
        epoch: the one that the next iteration yields.
        flip: the probability that an entry is a mirror image, or `doubling`: a pass holds every window both ways.
        rank, world: which process this is, of how many; it gets every world-th clip of each batch. Where a batch has
            none for it, it gets the batch's first one, which must not count (`share`).
    """

    def __init__(
        self, count: int, batch: int, seed: int, steps: int | None = None, epoch: int = 0,
        flip: float | Literal["doubling"] = 0.0, rank: int = 0, world: int = 1,
    ) -> None:  # fmt: skip
        self.count, self.batch, self.seed, self.steps, self.epoch = count, batch, seed, steps, epoch
        self.flip, self.rank, self.world = flip, rank, world
        self.per_pass = 2 * count if flip == "doubling" else count
        self.per_epoch = steps * batch if steps else self.per_pass

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch that the next iteration yields."""
        self.epoch = epoch

    def __len__(self) -> int:
        return -(-self.per_epoch // self.batch)

    def clips(self, step: int) -> int:
        """Clips in batch number `step` of an epoch, over all processes."""
        return min(self.batch, self.per_epoch - step * self.batch)

    def share(self, step: int, accumulate: int = 1) -> float:
        """What this process's mean loss over batch `step` must be multiplied by, so that the mean over processes and
        over `accumulate` batches is the mean over their clips. 1 when all batches are full and shared evenly.
        """
        first = step - step % accumulate
        together = sum(self.clips(n) for n in range(first, min(first + accumulate, len(self))))
        own = len(range(self.rank, self.clips(step), self.world))
        return own * self.world * accumulate / together

    def entries(self, epoch: int) -> np.ndarray:
        """(per_epoch,) entries of an epoch, in order."""
        first, skipped = divmod(epoch * self.per_epoch, self.per_pass)
        last = ((epoch + 1) * self.per_epoch - 1) // self.per_pass
        passes = [stream(ORDER, self.seed, n).permutation(self.per_pass) for n in range(first, last + 1)]
        found = np.concatenate(passes)[skipped : skipped + self.per_epoch]
        if self.flip == "doubling" or not self.flip:
            return found
        mirrored = stream(FLIP, self.seed, epoch).random(self.per_epoch) < self.flip
        return found + self.count * mirrored

    def __iter__(self) -> Iterator[list[int]]:
        entries = self.entries(self.epoch)
        for start in range(0, self.per_epoch, self.batch):
            batch = entries[start : start + self.batch]
            own = batch[self.rank :: self.world]
            yield (own if len(own) else batch[:1]).tolist()


class MirroredWindows(Dataset):
    """The windows of a split, and after them their mirror images.

    Args:
        windows: (B, T, J, 3) inputs and targets by window number.
        left, right: joints that a mirror exchanges.
    """

    def __init__(self, windows: ClipWindows, left: list[int], right: list[int]) -> None:
        self.windows, self.left, self.right = windows, left, right

    def __len__(self) -> int:
        return 2 * len(self.windows)

    def __getitem__(self, entry: int) -> Batch:
        """One window, or its mirror image."""
        inputs, targets = self.__getitems__([entry])
        return inputs[0], targets[0]

    def __getitems__(self, entries: list[int]) -> Batch:
        """Several at once: inputs and targets, mirrored together."""
        number = np.asarray(entries)
        batch = self.windows.__getitems__(number % len(self.windows))
        mirrored = torch.from_numpy(number >= len(self.windows))
        if not mirrored.any():
            return batch
        for poses in batch:
            poses[mirrored] = mirror(poses[mirrored], self.left, self.right)
        return batch
