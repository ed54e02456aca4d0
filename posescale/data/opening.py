"""Opening a prepared folder whatever its task."""

import json
from pathlib import Path

from posescale.data.prepared import PreparedData
from posescale.data.video.prepared import VideoData
from posescale.errors import DataError


def open_prepared(folder: Path | str) -> PreparedData | VideoData:
    """The prepared data in a folder: PreparedData for lifting, VideoData for video.

    Raises:
        DataError: there is no index, it is torn, or a file it declares is.
    """
    index = Path(folder) / "index.json"
    if not index.is_file():
        raise DataError(f"{index}: missing; prepare the dataset first (`posescale data prepare NAME --out {folder}`)")
    try:
        format = json.loads(index.read_text(encoding="utf-8"))["format"]
    except (ValueError, TypeError, KeyError) as error:
        raise DataError(f"{index}: not an index of prepared data ({error}); prepare the dataset again") from error
    return VideoData(folder) if str(format).startswith("posescale-video") else PreparedData(folder)
