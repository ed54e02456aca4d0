"""What surrounds the people: a backdrop larger than the frame, and things that move behind or before them."""

from dataclasses import dataclass

import cv2
import numpy as np

from posescale.data.synthetic_video.looks import colour, mottle, shade
from posescale.data.synthetic_video.paint import capsules, fill, fill_plain, fixed

MARGIN = 1.8  # backdrop's size as a multiple of the frame's


@dataclass(frozen=True)
class Thing:
    """A panel or ball that moves through the frame on a straight line, at `speed` pixels per frame.

    Attributes:
        shape: `panel` (a turned rectangle), `ball` (an ellipse) or `limb` (a capsule like an arm).
        half: (2,) half extents in pixels, along and across its own axis.
        cos, sin: of its angle in the image.
        where: (2,) pixels at frame `when`.
        velocity: (2,) pixels per frame.
        texture: (h, w, 3) uint8.
        first, last: frames in which it is there at all.
    """

    shape: str
    half: np.ndarray
    cos: float
    sin: float
    where: np.ndarray
    when: float
    velocity: np.ndarray
    texture: np.ndarray
    first: float
    last: float

    def place(self, time: float) -> np.ndarray | None:
        """Its centre at a time in frames; None while it is not there."""
        return self.where + self.velocity * (time - self.when) if self.first <= time <= self.last else None

    def covers(self, points: np.ndarray, time: float) -> np.ndarray:
        """(K,) whether pixels (K, 2) lie under it, half a pixel within its edge."""
        centre = self.place(time)
        if centre is None:
            return np.zeros(len(points), dtype=bool)
        x, y = (points - centre).T
        along, across = x * self.cos + y * self.sin, y * self.cos - x * self.sin
        a, b = self.half - 0.5
        if self.shape == "panel":
            return (np.abs(along) <= a) & (np.abs(across) <= b)
        if self.shape == "ball":
            return (along / a) ** 2 + (across / b) ** 2 <= 1
        beyond = np.maximum(np.abs(along) - (a - b), 0)
        return beyond**2 + across**2 <= b * b

    def draw(self, image: np.ndarray, time: float) -> None:
        """Draw it as it is at a time in frames."""
        centre = self.place(time)
        if centre is None:
            return
        axis = np.array([self.cos, self.sin])
        normal = np.array([-self.sin, self.cos])
        a, b = self.half
        corners = centre + np.array([-a * axis - b * normal, -a * axis + b * normal, a * axis - b * normal])
        fill(image, self._outline(centre, axis, normal), self.texture, corners)

    def _outline(self, centre: np.ndarray, axis: np.ndarray, normal: np.ndarray) -> np.ndarray:
        a, b = self.half
        if self.shape == "panel":
            signs = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]])
            return fixed(centre + signs[:, :1] * a * axis + signs[:, 1:] * b * normal)
        if self.shape == "ball":
            return fixed(centre + _CIRCLE[:, :1] * a * axis + _CIRCLE[:, 1:] * b * normal)
        ends = (a - b) * axis
        radius = np.array([b])
        return capsules((centre - ends)[None], (centre + ends)[None], radius, radius)[0]


_CIRCLE = np.round(np.stack([np.cos(np.arange(28) * 2 * np.pi / 28), np.sin(np.arange(28) * 2 * np.pi / 28)], 1), 6)


def stuff(rng: np.random.Generator) -> np.ndarray:
    """A texture of wood, cloth, boards or plain paint for a thing, `(48, 48, 3)` uint8."""
    first, second = colour(rng), colour(rng)
    rows, columns = np.mgrid[:48, :48]
    width = int(rng.integers(3, 12))
    kind = int(rng.integers(4))
    weight = ((rows // width) % 2, (columns // width) % 2, (rows // width + columns // width) % 2, rows * 0)[kind] * 70
    mixed = (first * (100 - weight[..., None]) + second * weight[..., None]) // 100
    grain = mottle(rng, 48, 48, 22)[..., None]
    return np.clip(mixed + grain, 0, 255).astype(np.uint8)


def backdrop(rng: np.random.Generator, width: int, height: int, horizon: float) -> np.ndarray:
    """Wall and floor with clutter, limb-like distractors among it.

    Args:
        rng: decides all of it.
        width, height: of the frame.
        horizon: where wall and floor meet, in pixels below the backdrop's top.
    """
    w, h = round(width * MARGIN), round(height * MARGIN)
    image = np.empty((h, w, 3), np.int16)
    edge = int(np.clip(horizon, 0.2 * h, 0.9 * h))
    image[:edge], image[edge:] = colour(rng, 45), colour(rng, 45)
    image[:edge] += ((np.arange(edge) - edge // 2) * int(rng.integers(-25, 26)) // max(edge, 1))[:, None, None].astype(
        np.int16
    )
    image[edge:] -= (np.arange(h - edge)[::-1] * 40 // max(h - edge, 1))[:, None, None].astype(np.int16)
    image += mottle(rng, h, w, int(rng.integers(8, 34)))[..., None]
    _lines(image, rng, edge)
    image = np.clip(image, 0, 255).astype(np.uint8)
    for _ in range(int(rng.integers(4, 11))):
        _clutter(image, rng, edge)
    for _ in range(int(rng.integers(2, 7))):
        _limb(image, rng, edge)
    return image


def _lines(image: np.ndarray, rng: np.random.Generator, edge: int) -> None:
    """Boards or tiles on the wall, boards on the floor."""
    step, strength = int(rng.integers(14, 60)), int(rng.integers(6, 28))
    if rng.random() < 0.6:
        image[:edge, ::step] -= strength
        if rng.random() < 0.5:
            image[: edge : step // 2 + 4] -= strength
    row, gap = edge, 3.0
    while row < len(image):
        image[int(row)] -= strength
        row, gap = row + gap, gap * 1.35


def _clutter(image: np.ndarray, rng: np.random.Generator, edge: int) -> None:
    """A poster, window, shelf, crate or post."""
    h, w = image.shape[:2]
    half = np.array([rng.uniform(5, 40), rng.uniform(5, 45)])
    centre = np.array([rng.uniform(0, w), rng.uniform(0.1 * h, edge + 0.1 * h)])
    if rng.random() < 0.3:  # a post that stands on the floor
        half = np.array([rng.uniform(2, 6), rng.uniform(50, 140)])
        centre[1] = edge + rng.uniform(0, 20) - half[1]
    outline = fixed(centre + np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * half)
    corners = centre + np.array([[-1, -1], [1, -1], [-1, 1]]) * half
    fill(image, outline, stuff(rng), corners)
    if rng.random() < 0.5:
        inner = fixed(centre + np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * half * 0.75)
        fill_plain(image, inner, colour(rng))


def _limb(image: np.ndarray, rng: np.random.Generator, edge: int) -> None:
    """Two capsules joined at an elbow, of the size and shade of an arm or a leg: nobody's."""
    h, w = image.shape[:2]
    joint = np.array([rng.uniform(0, w), rng.uniform(edge - 0.3 * h, edge + 0.15 * h)])
    texture = shade(colour(rng))
    radius = rng.uniform(3, 7)
    for _ in range(2):
        end = joint + rng.uniform(-1, 1, 2) * np.array([20, 34])
        a, b, r = joint[None], end[None], np.array([radius])
        axis = (end - joint) / max(np.sqrt(((end - joint) ** 2).sum()), 1e-6)
        normal = np.array([-axis[1], axis[0]]) * radius
        corners = np.array([joint - normal, joint + normal, end - normal])
        fill(image, capsules(a, b, r, r * 0.8)[0], texture, corners)


def seen(backdrop_image: np.ndarray, zoom: float, offset: np.ndarray, width: int, height: int) -> np.ndarray:
    """The frame's view of the backdrop, whose pixel p is seen at `zoom * p + offset`.

    Done in OpenCV's fixed point: its floating-point warp rounds differently with and without fused multiply-add.
    """
    x, y = (np.rint((np.arange(n) - o) / zoom * 32).astype(np.int32) for n, o in zip((width, height), offset))
    whole = np.empty((height, width, 2), np.int16)
    whole[..., 0], whole[..., 1] = x >> 5, (y >> 5)[:, None]
    share = ((y & 31)[:, None] * 32 + (x & 31)).astype(np.uint16)
    return cv2.remap(backdrop_image, whole, share, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
