"""Which windows a batch holds and which of them are mirrored: pure functions of seed, epoch and step.

No state is carried from batch to batch, so a run resumed at the end of an epoch goes on exactly as it would have.
"""

from collections.abc import Iterator

import numpy as np
from torch.utils.data import Sampler

from posescale.recipes import Recipe

ORDER, FLIP, MODEL = range(3)  # separate streams of random numbers


def stream(kind: int, seed: int, *place: int) -> np.random.Generator:
    """The random numbers of one kind at one place (an epoch, a step) of the run with this seed."""
    return np.random.default_rng([kind, seed, *place])


def flips(seed: int, epoch: int, step: int, clips: int, probability: float) -> np.ndarray:
    """(clips,) truth values: which clips of a batch are mirrored."""
    return stream(FLIP, seed, epoch, step).random(clips) < probability


class EpochBatches(Sampler[list[int]]):
    """Batches of window numbers for one epoch after another.

    Without `steps` an epoch is one pass over all windows in a new order, its last batch perhaps smaller. With `steps`
    it is so many full batches, cut from an endless run of passes, so that no window is seen twice before all are
    seen once.

    Args:
        count: number of windows.
        batch: windows per batch.
        seed: of the run.
        steps: batches per epoch, or None for one pass.
        epoch: the one that the next iteration yields.
    """

    def __init__(self, count: int, batch: int, seed: int, steps: int | None = None, epoch: int = 0) -> None:
        self.count, self.batch, self.seed, self.steps, self.epoch = count, batch, seed, steps, epoch
        self.per_epoch = steps * batch if steps else count

    @classmethod
    def of(cls, recipe: Recipe, count: int, seed: int, epoch: int) -> "EpochBatches":
        """The batches that a recipe asks for; an epoch's steps are the optimiser's, which may gather several."""
        steps = recipe.steps_per_epoch and recipe.steps_per_epoch * recipe.accumulate
        return cls(count, recipe.batch, seed, steps, epoch)

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch that the next iteration yields."""
        self.epoch = epoch

    def __len__(self) -> int:
        return -(-self.per_epoch // self.batch)

    def __iter__(self) -> Iterator[list[int]]:
        place, end = self.epoch * self.per_epoch, (self.epoch + 1) * self.per_epoch
        number, order = -1, np.empty(0, dtype=np.int64)
        while place < end:
            batch: list[int] = []
            while len(batch) < self.batch and place < end:
                if place // self.count != number:
                    number = place // self.count
                    order = stream(ORDER, self.seed, number).permutation(self.count)
                inside = place - number * self.count
                taken = order[inside : inside + min(self.batch - len(batch), end - place)].tolist()
                batch += taken
                place += len(taken)
            yield batch
