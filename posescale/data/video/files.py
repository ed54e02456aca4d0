"""Reading other people's json with refusals in words, and finding the frames of a video on disk."""

import re
from pathlib import Path
from typing import Annotated, Any, TypeVar

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from posescale.data.video.images import read_image
from posescale.errors import DataError

IMAGES = (".jpg", ".jpeg", ".png")
Finite = Annotated[float, Field(allow_inf_nan=False)]
Document = TypeVar("Document")


class Raw(BaseModel):
    """A record of a foreign file: unknown keys are its own business, wrong values are not."""

    model_config = ConfigDict(extra="ignore", frozen=True)


def read_json(path: Path, form: type[Document] | Any) -> Document:
    """A json file of a declared form.

    Raises:
        DataError: it is missing, truncated, or a value in it is missing or wrong; names file, key and reason.
    """
    try:
        return TypeAdapter(form).validate_json(path.read_bytes())
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in first["loc"]).lstrip(".")
        more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
        raise DataError(f"{path}: {where + ': ' if where else ''}{first['msg']}{more}; get the file again") from error


def polygons(xs: list | None, ys: list | None, where: str) -> list[list[tuple[float, float]]]:
    """Ignore regions from PoseTrack18's parallel lists; a single region may come as flat lists.

    Raises:
        DataError: x and y are not of one length.
    """
    xs, ys = xs or [], ys or []
    if xs and not isinstance(xs[0], list):
        xs = [xs]
    if ys and not isinstance(ys[0], list):
        ys = [ys]
    if [len(x) for x in xs] != [len(y) for y in ys]:
        raise DataError(f"{where}: ignore_regions_x and ignore_regions_y are not of one length")
    return [list(zip(x, y)) for x, y in zip(xs, ys)]


def frame_number(file: str, where: str) -> int:
    """The number in a frame's name.

    Raises:
        DataError: the name holds none.
    """
    digits = re.search(r"(\d+)$", Path(file).stem)
    if digits is None:
        raise DataError(f"{where}: frame {file!r} has no number in its name, so it has no place in time")
    return int(digits.group(1))


def frames_on_disk(folder: Path) -> dict[int, str]:
    """Numbered images of one folder: number -> name; empty where there is no folder."""
    if not folder.is_dir():
        return {}
    names = (p.name for p in folder.iterdir() if p.suffix.lower() in IMAGES and p.stem.isdigit())
    return {int(Path(name).stem): name for name in sorted(names)}


def size_of(path: Path) -> tuple[int, int]:
    """Width and height of an image, pixels."""
    height, width = read_image(path).shape[:2]
    return width, height


def box_around(points: np.ndarray, factor: float = 1.3) -> np.ndarray:
    """Box (x, y, width, height) of points (N, 2), grown about its centre, as poseval makes one where there is none."""
    low, high = points.min(0), points.max(0)
    size = (high - low) * factor
    return np.concatenate([(low + high - size) / 2, size])


def extent(points: np.ndarray) -> tuple[int, int]:
    """Width and height that hold all of (N, 2) points: what is known of a frame that is not there."""
    return tuple(int(v) for v in np.maximum(np.ceil(points.max(0, initial=0)) + 1, 1))
