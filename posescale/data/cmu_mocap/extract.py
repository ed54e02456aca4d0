"""The prepared extract: cmu17_60fps.npz (one array a trial) and index.json."""

import json
import zipfile
import zlib
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from posescale.data.cmu_mocap.mapping import FPS
from posescale.data.prepared import Split
from posescale.data.skeleton import JOINTS, PARENTS
from posescale.errors import DataError

ARRAYS, INDEX = "cmu17_60fps.npz", "index.json"


class Entry(BaseModel):
    """What is used of a trial's entry; the rest (sources, bone lengths) is provenance."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    id: str
    subject: str
    action: str
    split: Split
    frames: int


class Index(BaseModel):
    """What is used of index.json."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    format: str
    unit: str
    fps: float
    joints: list[str]
    parents: list[int]
    trials: list[Entry]


def read_index(folder: Path) -> Index:
    """Read and check index.json.

    Raises:
        DataError: it is no index, of another format, unit, rate or skeleton, or a trial or subject is in it twice.
    """
    path = folder / INDEX
    try:
        index = Index.model_validate(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, ValidationError) as error:
        raise DataError(f"{path}: not the index of the CMU extract: {error}") from error
    expected = {"format": "cmu17 v1", "unit": "metre", "fps": FPS, "joints": JOINTS, "parents": PARENTS}
    for key, value in expected.items():
        if getattr(index, key) != value:
            raise DataError(f"{path}: expected {key} {value!r}, found {getattr(index, key)!r}")
    ids = [trial.id for trial in index.trials]
    if len(set(ids)) != len(ids):
        raise DataError(f"{path}: a trial is listed twice: {', '.join(sorted({i for i in ids if ids.count(i) > 1}))}")
    splits = {(trial.subject, trial.split) for trial in index.trials}
    if len(splits) != len({subject for subject, _ in splits}):
        raise DataError(f"{path}: a subject is in two splits; splits must be disjoint by subject")
    return index


def open_arrays(folder: Path, index: Index) -> "np.lib.npyio.NpzFile":
    """Open the arrays (each is read when asked for), which must be exactly the index's trials.

    Raises:
        DataError: the file is missing, torn, or holds other trials.
    """
    path = folder / ARRAYS
    try:
        arrays = np.load(path, allow_pickle=False)
        names = set(arrays.files)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, AttributeError) as error:
        raise DataError(f"{path}: missing, torn or no npz file: {error}; get it again") from error
    listed = {trial.id for trial in index.trials}
    if names != listed:
        lacking, extra = sorted(listed - names), sorted(names - listed)
        raise DataError(
            f"{path}: its trials are not those of {INDEX}: missing {', '.join(lacking) or 'none'}; "
            f"extra {', '.join(extra) or 'none'}. Take both files from the same source"
        )
    return arrays


def read_trial(arrays: "np.lib.npyio.NpzFile", trial: Entry, path: Path) -> np.ndarray:
    """One trial `(F, 17, 3)`, metres.

    Raises:
        DataError: its array is torn, not of floats, of another shape, not finite, or not in metres.
    """
    try:
        joints = arrays[trial.id]
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(f"{path}: trial {trial.id} cannot be read: {error}; get the file again") from error
    expected = (trial.frames, len(JOINTS), 3)
    if joints.shape != expected or joints.dtype.kind != "f":
        found = f"{joints.dtype} {joints.shape}"
        raise DataError(f"{path}: trial {trial.id}: expected floats of shape {expected}, found {found}")
    if not np.isfinite(joints).all():
        frame = int(np.argwhere(~np.isfinite(joints))[0][0])
        raise DataError(f"{path}: trial {trial.id}: NaN or infinity, first in frame {frame}; get the file again")
    size = float(np.sqrt(((joints - joints[:, :1]) ** 2).sum(-1)).max())
    if not 0.5 < size < 3:
        raise DataError(f"{path}: trial {trial.id}: a joint is {size:.3g} from the hip; expected 0.5 to 3 metres")
    return joints
