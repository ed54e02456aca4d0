"""A simulated 2D detector: what a real one would make of exact projections.

Every joint of every frame gets Gaussian noise. Now and then a joint is occluded for 5 to 20 frames and its error is
several times larger (a constant offset plus more noise), or the left and right joints of the arms or of the legs are
exchanged for a few frames. The confidence knows: it falls with the squared true error e (pixels of a 1000-pixel image)
as 1 / (1 + u (e / 20)^2), where u is drawn from 0.25 .. 1.75 for each joint and frame, so it ranks errors well without
giving them away.

What is promised: the same seed and the same exact projections give the same bits with the same numpy; on another
machine the same draws (PCG64), and values equal to float32 rounding. Only +, -, *, / act on the draws.
"""

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

HALF_CONFIDENCE = 20.0  # pixels of error at which the confidence is about one half


class DetectorSettings(BaseModel):
    """How good the simulated detector is; pixels are those of a 1000-pixel-wide image and scale with the width."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    noise_px: float = Field(default=4.0, ge=0, le=100)  # standard deviation of x and of y
    occlusion_rate: float = Field(default=0.004, ge=0, le=1)  # bursts that start, per joint and frame
    occlusion_px: float = Field(default=25.0, ge=0, le=1000)  # standard deviation of a burst's offset
    swap_rate: float = Field(default=0.002, ge=0, le=1)  # exchanges that start, per frame and limb pair


def detect(
    exact: np.ndarray, seed: int, settings: DetectorSettings, width: int, left: list[int], right: list[int]
) -> np.ndarray:
    """Detections of one sequence.

    Args:
        exact: `(F, J, 2)` pixels.
        seed: of this sequence (see `posescale.data.camera.named_seed`).
        settings: noise level and how often things go wrong.
        width: of the image in pixels; errors scale with it.
        left, right: joint indices, pairwise; the first half of each are the legs', the rest the arms'.

    Returns:
        `(F, J, 3)` float32: x, y in pixels, confidence in 0..1.
    """
    exact = np.asarray(exact, dtype=np.float64)
    rng = np.random.Generator(np.random.PCG64(seed))
    scale = width / 1000
    swapped = _exchange(exact, rng, settings.swap_rate, left, right)
    noise = settings.noise_px * rng.standard_normal(exact.shape)
    error = (noise + _occlusions(exact.shape[:2], rng, settings)) * scale
    found = (swapped + error).astype(np.float32)
    squared = (((found - exact) / scale) ** 2).sum(-1)
    unsure = rng.uniform(0.25, 1.75, squared.shape)
    confidence = 1 / (1 + unsure * squared / HALF_CONFIDENCE**2)
    return np.concatenate([found, confidence[..., None].astype(np.float32)], axis=-1)


def _occlusions(shape: tuple[int, int], rng: np.random.Generator, settings: DetectorSettings) -> np.ndarray:
    """Additional error `(F, J, 2)` of occluded joints: one offset for a burst, and three times the usual noise."""
    error = np.zeros((*shape, 2))
    for frame, joint in np.argwhere(rng.random(shape) < settings.occlusion_rate):
        length = int(rng.integers(5, 21))
        offset = settings.occlusion_px * rng.standard_normal(2)
        jitter = 3 * settings.noise_px * rng.standard_normal((length, 2))
        burst = error[frame : frame + length, joint]
        burst[:] = offset + jitter[: len(burst)]
    return error


def _exchange(
    exact: np.ndarray, rng: np.random.Generator, rate: float, left: list[int], right: list[int]
) -> np.ndarray:
    """The joints with left and right legs, or arms, exchanged for 2 to 10 frames now and then."""
    found = exact.copy()
    half = len(left) // 2
    limbs = [(left[:half], right[:half]), (left[half:], right[half:])]
    for frame, limb in np.argwhere(rng.random((len(exact), 2)) < rate):
        these, those = limbs[limb]
        frames = slice(frame, frame + int(rng.integers(2, 11)))
        found[frames, these], found[frames, those] = exact[frames, those], exact[frames, these]
    return found
