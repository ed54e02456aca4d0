"""Pinhole cameras, with the conventions of the Human3.6M line of work (VideoPose3D).

World: right-handed, z up, metres. Camera: x right, y down, z forward, metres. Image: pixels, origin top left.
"""

import hashlib
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from posescale.errors import DataError


def normalise_screen(xy: ArrayLike, width: ArrayLike, height: ArrayLike) -> np.ndarray:
    """Pixels to screen units: x -> 2 x / W - 1 in [-1, 1], y -> 2 y / W - H / W, so that the aspect ratio stays.

    Args:
        xy: `(..., 2)` pixels.
        width, height: of the image in pixels; arrays must broadcast against `(...)`.
    """
    xy, width, height = np.asarray(xy), np.asarray(width), np.asarray(height)
    offset = np.stack(np.broadcast_arrays(np.ones_like(height / width), height / width), axis=-1)
    return xy * 2 / width[..., None] - offset


def denormalise_screen(xy: ArrayLike, width: ArrayLike, height: ArrayLike) -> np.ndarray:
    """The inverse of `normalise_screen`: screen units `(..., 2)` to pixels."""
    xy, width, height = np.asarray(xy), np.asarray(width), np.asarray(height)
    offset = np.stack(np.broadcast_arrays(np.ones_like(height / width), height / width), axis=-1)
    return (xy + offset) * width[..., None] / 2


def rotation_matrix(quaternion: ArrayLike) -> np.ndarray:
    """The 3 x 3 rotation of a quaternion (w, x, y, z), which need not be of unit length.

    Raises:
        DataError: its length is zero or not a number.
    """
    quaternion = np.asarray(quaternion, dtype=np.float64)
    length = math.sqrt(float(quaternion @ quaternion))
    if quaternion.shape != (4,) or not length > 0 or not math.isfinite(length):
        raise DataError(f"a camera's orientation must be 4 numbers (w, x, y, z) of length above 0, found {quaternion}")
    w, x, y, z = quaternion / length
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )


def quaternion_of(rotation: ArrayLike) -> tuple[float, float, float, float]:
    """The unit quaternion (w, x, y, z), w >= 0, of a 3 x 3 rotation."""
    r = np.asarray(rotation, dtype=np.float64)
    # The squares of the four components; the largest gives the divisor, so nothing is divided by nearly zero.
    squares = np.array([1 + r[0, 0] + r[1, 1] + r[2, 2], 1 + r[0, 0] - r[1, 1] - r[2, 2],
                        1 - r[0, 0] + r[1, 1] - r[2, 2], 1 - r[0, 0] - r[1, 1] + r[2, 2]])  # fmt: skip
    products = np.array(
        [
            [squares[0], r[2, 1] - r[1, 2], r[0, 2] - r[2, 0], r[1, 0] - r[0, 1]],
            [r[2, 1] - r[1, 2], squares[1], r[0, 1] + r[1, 0], r[0, 2] + r[2, 0]],
            [r[0, 2] - r[2, 0], r[0, 1] + r[1, 0], squares[2], r[1, 2] + r[2, 1]],
            [r[1, 0] - r[0, 1], r[0, 2] + r[2, 0], r[1, 2] + r[2, 1], squares[3]],
        ]
    )
    q = products[int(np.argmax(squares))]
    q = q / math.sqrt(float(q @ q)) * (1.0 if q[0] >= 0 else -1.0)
    return tuple(float(v) for v in q)


@dataclass(frozen=True)
class Camera:
    """A pinhole camera with optional distortion.

    Attributes:
        id: its name in sequences.
        orientation: quaternion (w, x, y, z) that rotates camera axes into the world.
        position: of the camera in the world, metres.
        focal: (fx, fy) in pixels.
        centre: principal point in pixels.
        width, height: of the image, pixels.
        radial: k1, k2, k3.
        tangential: p1, p2 in VideoPose3D's order (the official metadata's, swapped).
    """

    id: str
    orientation: tuple[float, float, float, float]
    position: tuple[float, float, float]
    focal: tuple[float, float]
    centre: tuple[float, float]
    width: int
    height: int
    radial: tuple[float, float, float] = (0.0, 0.0, 0.0)
    tangential: tuple[float, float] = (0.0, 0.0)

    def to_camera(self, points: ArrayLike) -> np.ndarray:
        """World points `(..., 3)` in camera space: R^-1 (X - t)."""
        return (np.asarray(points, dtype=np.float64) - np.asarray(self.position)) @ rotation_matrix(self.orientation)

    def to_world(self, points: ArrayLike) -> np.ndarray:
        """Camera-space points `(..., 3)` in the world: R X + t."""
        turned = np.asarray(points, dtype=np.float64) @ rotation_matrix(self.orientation).T
        return turned + np.asarray(self.position)

    def project(self, points: ArrayLike) -> np.ndarray:
        """Camera-space points `(..., 3)` to pixels `(..., 2)`, float64.

        x/z and y/z are held within -1..1, as in VideoPose3D: beyond 45 degrees from the axis the distortion
        polynomial means nothing.

        Raises:
            DataError: a point is not in front of the camera.
        """
        points = np.asarray(points, dtype=np.float64)
        if not (points[..., 2] > 0).all():
            raise DataError(
                f"camera {self.id}: a point has depth {points[..., 2].min():.3g} m; it must be in front (> 0)"
            )
        ray = np.clip(points[..., :2] / points[..., 2:], -1, 1)
        if any(self.radial) or any(self.tangential):
            ray = self._distorted(ray)
        return ray * np.asarray(self.focal) + np.asarray(self.centre)

    def _distorted(self, ray: np.ndarray) -> np.ndarray:
        r2 = (ray**2).sum(-1, keepdims=True)
        k1, k2, k3 = self.radial
        tangential = np.asarray(self.tangential)
        bend = 1 + r2 * (k1 + r2 * (k2 + r2 * k3)) + (ray * tangential).sum(-1, keepdims=True)
        return ray * bend + tangential * r2

    @classmethod
    def from_normalised(
        cls, id: str, intrinsic: ArrayLike, width: int, height: int, orientation: ArrayLike, position: ArrayLike
    ) -> "Camera":
        """A camera from VideoPose3D's nine numbers: focal lengths and centre in screen units, k1 k2 k3, p1 p2.

        Args:
            id: its name.
            intrinsic: (9,).
            width, height: of its image, pixels.
            orientation: (4,) unit quaternion w, x, y, z from camera to world.
            position: (3,) metres, in the world.

        Raises:
            DataError: there are not nine numbers.
        """
        numbers = np.asarray(intrinsic, dtype=np.float64)
        if numbers.shape != (9,):
            raise DataError(f"camera {id}: expected 9 intrinsic numbers, found shape {numbers.shape}")
        centre = denormalise_screen(numbers[2:4], width, height)
        return cls(
            id=id,
            orientation=tuple(float(v) for v in np.asarray(orientation)),
            position=tuple(float(v) for v in np.asarray(position)),
            focal=(float(numbers[0] * width / 2), float(numbers[1] * width / 2)),
            centre=(float(centre[0]), float(centre[1])),
            width=width,
            height=height,
            radial=tuple(float(v) for v in numbers[4:7]),
            tangential=tuple(float(v) for v in numbers[7:9]),
        )


def in_view(pixels: np.ndarray, camera: Camera, margin: float = 0.0) -> np.ndarray:
    """For each of `(..., 2)` pixels whether it lies in the image, at least `margin` pixels from its border."""
    size = np.array([camera.width, camera.height])
    return ((pixels >= margin) & (pixels <= size - margin)).all(-1)


def look_at(position: ArrayLike, target: ArrayLike) -> tuple[float, float, float, float]:
    """Orientation of an upright camera at `position` whose axis goes through `target` (world points, z up).

    Raises:
        DataError: the two lie on one vertical line, so that upright means nothing.
    """
    forward = np.asarray(target, dtype=np.float64) - np.asarray(position, dtype=np.float64)
    right = np.array([forward[1], -forward[0], 0.0])
    if not math.hypot(right[0], right[1]) > 1e-9:
        raise DataError(f"a camera at {position} cannot look upright at {target}: straight up or down")
    forward, right = forward / np.sqrt((forward**2).sum()), right / np.sqrt((right**2).sum())
    down = np.cross(forward, right)
    return quaternion_of(np.stack([right, down, forward], axis=1))


def named_seed(*names: object) -> int:
    """A 64-bit seed from names, the same on every machine and in every process (SHA-256, not Python's `hash`)."""
    return int.from_bytes(hashlib.sha256("/".join(map(str, names)).encode()).digest()[:8], "little")


def rig(seed: int, trial: np.ndarray, cameras: int = 4, size: int = 1000, margin: float = 25.0) -> list[Camera]:
    """Cameras around one trial, like Human3.6M's: about f = 1145 px for 1000 px, 1.2 to 1.8 m high, no distortion.

    Each looks at the middle of the trial's bounding box from 4 to 6 m. Where the person would leave the image it
    moves back at the same height, 5 % at a time, until every joint of every frame is in view.

    Args:
        seed: decides azimuths, heights, distances and focal lengths.
        trial: `(F, J, 3)` world joints, metres, floor near z = 0.
        cameras: how many, spread evenly around the subject (give or take 15 degrees).
        size: width and height of the square image, pixels.
        margin: pixels kept free at the border, for a 1000-pixel image.
    """
    rng = np.random.Generator(np.random.PCG64(seed))
    points = np.asarray(trial, dtype=np.float64).reshape(-1, 3)
    low, high = points.min(0), points.max(0)
    middle = (low + high) / 2
    turn = rng.uniform(0, 2 * math.pi)
    placed = []
    for number in range(cameras):
        azimuth = turn + 2 * math.pi * number / cameras + rng.uniform(-0.26, 0.26)
        distance, height = rng.uniform(4.0, 6.0), rng.uniform(1.2, 1.8)
        focal = rng.uniform(1140.0, 1150.0) * size / 1000
        placed.append(_placed(f"cam{number}", points, middle, azimuth, distance, height, focal, size, margin))
    return placed


def _placed(
    id: str, points: np.ndarray, middle: np.ndarray, azimuth: float, distance: float, height: float, focal: float,
    size: int, margin: float,
) -> Camera:  # fmt: skip
    """The nearest camera on the ray `azimuth`, not nearer than `distance`, that sees all points."""
    direction = np.array([math.cos(azimuth), math.sin(azimuth)])
    while distance < 1000:
        position = (*(float(v) for v in middle[:2] + distance * direction), height)
        centre = (size / 2, size / 2)
        camera = Camera(id, look_at(position, middle), position, (focal, focal), centre, size, size)
        seen = camera.to_camera(points)
        if seen[:, 2].min() > 0.5 and in_view(camera.project(seen), camera, margin * size / 1000).all():
            return camera
        distance *= 1.05
    raise DataError(f"{id}: no place within 1 km sees the whole trial; are the joints in metres?")
