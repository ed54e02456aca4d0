"""The embedded twin of a motion-capture dataset: procedural people from a seed, seen by simulated cameras."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from pydantic import Field

from posescale.data.camera import named_seed
from posescale.data.prepared import Split
from posescale.data.reading import Reading, Trial, ViewSettings, views
from posescale.data.synthetic_motion.actions import ACTIONS, draw_style, motion_of
from posescale.data.synthetic_motion.body import COLUMN, draw_body, pose, stand


class Settings(ViewSettings):
    """What to generate. A subject or trial is the same however many others are asked for beside it."""

    subjects: int = Field(default=8, ge=3, le=1000)
    trials: int = Field(default=10, ge=1, le=1000)  # per subject; trial n performs action n, in turn
    seconds: float = Field(default=8.4, gt=0, le=600)
    fps: float = Field(default=30.0, gt=0, le=240)


def missing(source: Path | None) -> str:
    """Never anything: the data are generated."""
    return ""


def split_of(subject: int, subjects: int) -> Split:
    """Split of a subject by number: the last quarter tests, the eighth before it validates (at least one each)."""
    test, val = max(1, round(subjects / 4)), max(1, round(subjects / 8))
    if subject >= subjects - test:
        return "test"
    return "val" if subject >= subjects - test - val else "train"


def generate(settings: Settings, subject: int, number: int) -> Trial:
    """Trial `number` of a subject."""
    name = f"S{subject + 1:02d}"
    action = list(ACTIONS)[number % len(ACTIONS)]
    person = np.random.Generator(np.random.PCG64(named_seed("person", settings.seed, name)))
    body, style = draw_body(person), draw_style(person)
    rng = np.random.Generator(np.random.PCG64(named_seed("trial", settings.seed, name, number)))
    frames = max(2, round(settings.seconds * settings.fps))
    angles, heading = motion_of(action, frames, settings.fps, style, rng)
    joints = stand(pose(body, angles, heading), angles[:, COLUMN["flight"]], settings.fps)
    return Trial(f"{name}_{number + 1:02d}_{action}", name, action, split_of(subject, settings.subjects), joints)


def read(source: Path | None, settings: Settings) -> Reading:
    """Generate the dataset; `source` is not used."""

    def clips() -> Iterator:
        for subject in range(settings.subjects):
            for number in range(settings.trials):
                yield from views(generate(settings, subject, number), settings)

    return Reading(settings.subjects * settings.trials * settings.cameras, clips(), settings.fps)
