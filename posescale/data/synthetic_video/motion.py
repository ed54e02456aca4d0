"""Where the people's motion comes from: the synthetic twin, or CMU motion capture when it is on this machine."""

from functools import cache
from pathlib import Path

import numpy as np

from posescale.data.cmu_mocap import reader as cmu
from posescale.data.prepared import Split
from posescale.data.reading import Trial
from posescale.data.skeleton import LEFT, PARENTS, RIGHT
from posescale.data.synthetic_motion import reader as twin
from posescale.data.synthetic_motion.actions import ACTIONS
from posescale.data.synthetic_video.figure import jitter_bones
from posescale.errors import UnavailableError

RATE = 100.0  # samples per second: exposures are rendered from moments between frames
# First subject of each split: nobody is in two splits.
SUBJECTS: dict[Split, tuple[int, int]] = {"train": (0, 600), "val": (600, 200), "test": (800, 200)}
QUICK = ("run", "wave", "box", "jump")


def draw_motion(
    rng: np.random.Generator, split: Split, seconds: float, seed: int, source: Path | None, action: str | None = None
) -> np.ndarray:
    """Joints `(S, 17, 3)` of one person, metres, z up, `RATE` samples a second.

    Mirrored for half of the people, bones changed by up to 8 % (left and right alike), placed above the origin.

    Args:
        rng: chooses person, action and moment.
        split: whose people may be chosen.
        seconds: that the motion must last.
        seed: of the twin.
        source: folder of CMU motion; None takes the twin.
        action: of the twin; any when not given.
    """
    joints = _twin(rng, split, seconds, seed, action) if source is None else _captured(rng, split, seconds, source)
    factors = np.ones(len(PARENTS))
    for a, b in zip(LEFT, RIGHT):
        factors[[a, b]] = rng.uniform(0.92, 1.08)
    if rng.random() < 0.5:
        order = np.arange(len(PARENTS))
        order[LEFT], order[RIGHT] = RIGHT, LEFT
        joints = joints[:, order] * [1, -1, 1]
    joints = jitter_bones(joints, PARENTS, factors)
    middle = joints[:, 0].mean(0)
    return joints - [middle[0], middle[1], 0.0]


def _twin(rng: np.random.Generator, split: Split, seconds: float, seed: int, action: str | None) -> np.ndarray:
    first, count = SUBJECTS[split]
    names = list(ACTIONS)
    action = action or str(rng.choice(QUICK) if rng.random() < 0.4 else rng.choice(names))
    trial = names.index(action) + len(names) * int(rng.integers(20))
    start = rng.uniform(0.5, 3.0)
    settings = twin.Settings(seed=seed, subjects=1000, trials=1000, seconds=start + seconds + 0.1, fps=RATE)
    motion = twin.generate(settings, first + int(rng.integers(count)), trial).joints
    return motion[round(start * RATE) :][: round(seconds * RATE) + 1]


def _captured(rng: np.random.Generator, split: Split, seconds: float, source: Path) -> np.ndarray:
    trials = [t for t in captured(source) if t.split == split and len(t.joints) / cmu.FPS > seconds + 0.1]
    if not trials:
        raise UnavailableError(f"{source}: no CMU trial of split {split!r} lasts {seconds:.1f} s; add trials")
    joints = trials[int(rng.integers(len(trials)))].joints
    start = rng.uniform(0, (len(joints) - 1) / cmu.FPS - seconds - 0.05)
    return between(joints, (start + np.arange(round(seconds * RATE) + 1) / RATE) * cmu.FPS)


@cache
def captured(source: Path) -> list[Trial]:
    """All CMU trials of a folder.

    Raises:
        UnavailableError: there are none.
    """
    lacking = cmu.missing(source)
    if lacking:
        raise UnavailableError(f"motion from CMU: {lacking}; choose motion=synthetic, or get it")
    return list(cmu.trials(source))


def between(samples: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Samples `(S, ...)` at fractional places of any shape, linearly."""
    low = np.clip(np.floor(places).astype(int), 0, len(samples) - 2)
    share = (places - low).reshape(*places.shape, *[1] * (samples.ndim - 1))
    return samples[low] + (samples[low + 1] - samples[low]) * share
