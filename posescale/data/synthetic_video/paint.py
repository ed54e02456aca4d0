"""Drawing with OpenCV in integers: convex outlines in 1/16 pixel, filled from textures that carry their own shade."""

import cv2
import numpy as np

SHIFT = 4
ONE = 1 << SHIFT  # one pixel in the fixed-point units of outlines
_ARC = 8
# A half circle, from one side of an axis to the other over its end; the same on every machine once rounded.
_TURN = np.round(np.stack([np.sin(np.linspace(0, np.pi, _ARC)), np.cos(np.linspace(0, np.pi, _ARC))], 1), 6)


def capsules(a: np.ndarray, b: np.ndarray, ra: np.ndarray, rb: np.ndarray) -> np.ndarray:
    """Outlines of tapered capsules.

    Args:
        a, b: (P, 2) ends, pixels.
        ra, rb: (P,) radii, pixels.

    Returns:
        (P, N, 2) int32 in 1/16 pixel.
    """
    axis = b - a
    length = np.sqrt(axis[:, 0] ** 2 + axis[:, 1] ** 2)
    axis = np.where(length[:, None] > 1e-6, axis / np.maximum(length, 1e-6)[:, None], [1.0, 0.0])
    normal = np.stack([-axis[:, 1], axis[:, 0]], 1)
    over_end = _TURN[None, :, :1] * axis[:, None] + _TURN[None, :, 1:] * normal[:, None]
    over_start = -over_end
    outline = np.concatenate(
        [b[:, None] + over_end * rb[:, None, None], a[:, None] + over_start * ra[:, None, None]], 1
    )
    return fixed(outline)


def fixed(points: np.ndarray) -> np.ndarray:
    """Pixels as int32 in 1/16 pixel."""
    return np.rint(np.clip(points, -4000, 4000) * ONE).astype(np.int32)


def fill(image: np.ndarray, outline: np.ndarray, texture: np.ndarray, corners: np.ndarray) -> None:
    """Fill a convex outline of an image with a texture, smooth at the edge.

    Args:
        image: (H, W, 3) uint8, drawn into.
        outline: (N, 2) int32 in 1/16 pixel.
        texture: (h, w, 3) uint8.
        corners: (3, 2) where the texture's top left, top right and bottom left lie, pixels.
    """
    window = _window(image, outline)
    if window is None:
        return
    x0, y0, x1, y1 = window
    mask = _mask(outline, window)
    h, w = texture.shape[:2]
    source = np.array([[0, 0], [w, 0], [0, h]], dtype=np.float32)
    matrix = cv2.getAffineTransform(source, (corners - [x0, y0]).astype(np.float32))
    patch = cv2.warpAffine(
        texture, matrix, (x1 - x0, y1 - y0), flags=cv2.INTER_NEAREST, borderMode=cv2.BORDER_REPLICATE
    )
    blend(image[y0:y1, x0:x1], patch, mask)


def fill_plain(image: np.ndarray, outline: np.ndarray, colour: np.ndarray, opacity: float = 1.0) -> None:
    """Fill a convex outline with one colour."""
    window = _window(image, outline)
    if window is not None:
        x0, y0, x1, y1 = window
        mask = _mask(outline, window)
        if opacity < 1:
            mask = (mask.astype(np.uint16) * round(opacity * 256) >> 8).astype(np.uint8)
        blend(image[y0:y1, x0:x1], np.asarray(colour, dtype=np.uint8), mask)


def mark(ids: np.ndarray, outline: np.ndarray, id: int) -> None:
    """Write `id` into every pixel of `ids` (H, W) that a convex outline covers."""
    cv2.fillConvexPoly(ids, outline, id, cv2.LINE_8, SHIFT)


def blend(area: np.ndarray, patch: np.ndarray, mask: np.ndarray) -> None:
    """Lay `patch` over `area` (both uint8) by `mask` 0..255, in integers."""
    share = mask[..., None].astype(np.uint16)
    area[...] = ((area * (255 - share) + patch * share + 127) // 255).astype(np.uint8)


def _window(image: np.ndarray, outline: np.ndarray) -> tuple[int, int, int, int] | None:
    height, width = image.shape[:2]
    low, high = outline.min(0) >> SHIFT, (outline.max(0) >> SHIFT) + 2
    x0, y0 = max(int(low[0]) - 1, 0), max(int(low[1]) - 1, 0)
    x1, y1 = min(int(high[0]), width), min(int(high[1]), height)
    return (x0, y0, x1, y1) if x0 < x1 and y0 < y1 else None


def _mask(outline: np.ndarray, window: tuple[int, int, int, int]) -> np.ndarray:
    x0, y0, x1, y1 = window
    mask = np.zeros((y1 - y0, x1 - x0), np.uint8)
    cv2.fillConvexPoly(mask, outline - np.array([x0, y0], np.int32) * ONE, 255, cv2.LINE_AA, SHIFT)
    return mask
