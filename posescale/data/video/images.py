"""Reading frames, with a bounded memory of decoded ones.

Decoding costs far more than cropping, and a clip of T frames overlaps its neighbours' clips: small datasets are decoded
once and kept (uint8, as in the file), large ones are decoded as they come. OpenCV's own threads are off: data loaders
have processes.
"""

from pathlib import Path

import cv2
import numpy as np

from posescale.errors import DataError

cv2.setNumThreads(1)


class FrameReader:
    """Images below a folder, decoded to `(H, W, 3)` uint8 RGB."""

    def __init__(self, root: Path, memory: int = 0) -> None:
        """Read below `root`; keep decoded frames until `memory` bytes are full."""
        self.root = root
        self._left = memory
        self._kept: dict[str, np.ndarray] = {}

    def __call__(self, file: str) -> np.ndarray:
        """The image of this name.

        Raises:
            DataError: it is missing, torn, or not an image.
        """
        image = self._kept.get(file)
        if image is None:
            image = read_image(self.root / file)
            if image.nbytes <= self._left:
                self._left -= image.nbytes
                self._kept[file] = image
        return image


def read_image(path: Path) -> np.ndarray:
    """One image as `(H, W, 3)` uint8 RGB.

    Raises:
        DataError: it is missing, torn, or not an image.
    """
    try:
        data = np.fromfile(path, dtype=np.uint8)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); is the folder of images complete?") from error
    if data[:2].tobytes() == b"\xff\xd8" and data[-512:].tobytes().rfind(b"\xff\xd9") < 0:
        raise DataError(f"{path}: a JPEG without its end; copy the file again")  # OpenCV would fill the rest with grey
    image = cv2.imdecode(data, cv2.IMREAD_COLOR_RGB) if len(data) else None
    if image is None:
        raise DataError(f"{path}: not an image, or torn ({len(data)} bytes); copy the file again")
    return image
