"""Clips cut from the sh pickle, one small pickle each: `H36M-SH/{train,test}/%08d.pkl`.

`{"data_input": (T, 17, 3) x, y, confidence; "data_label": (T, 17, 3)}`, float32, in screen units, not root-relative.
Such a clip does not say its video, camera or factor, so the clips train models, and no error in mm can be had from
them: for that the pickle is needed. Each clip becomes a sequence of its own; training clips overlap, as they were cut.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from posescale.data.camera import denormalise_screen
from posescale.data.plain_pickle import load_pickle
from posescale.data.plausible import check_bones
from posescale.data.prepared import Clip
from posescale.data.skeleton import H36M
from posescale.errors import DataError

SIZE = 1000  # the image's own size is not known; any size undoes itself when windows are normalised again
PATTERNS = ("H36M-*", "*/H36M-*", "motion3d/*/H36M-*", "data/motion3d/*/H36M-*")


def find(folder: Path) -> Path | None:
    """The first folder of clips with a train and a test part."""
    found = (path for pattern in PATTERNS for path in sorted(folder.glob(pattern)))
    return next((path for path in found if (path / "train").is_dir() and (path / "test").is_dir()), None)


def read(folder: Path, plausible: bool) -> tuple[int, Iterator[Clip]]:
    """The clips: how many, and one after another, train before test, in the order of their numbers.

    Raises:
        DataError: a part is empty, a number is missing, or a clip is damaged.
    """
    files = {split: sorted((folder / split).glob("*.pkl")) for split in ("train", "test")}
    for split, paths in files.items():
        numbers = [path.stem for path in paths]
        expected = [f"{n:08d}" for n in range(len(paths))]
        if not paths or numbers != expected:
            wrong = next((f"{b}.pkl" for a, b in zip(numbers, expected) if a != b), "00000000.pkl")
            raise DataError(f"{folder / split}: {wrong} is missing; expected %08d.pkl from 0 on, {len(paths)} there")

    def clips() -> Iterator[Clip]:
        for split, paths in files.items():
            for path in paths:
                yield _clip(path, split, plausible)

    return sum(map(len, files.values())), clips()


def _clip(path: Path, split: str, plausible: bool) -> Clip:
    content = load_pickle(path)
    keys = ("data_input", "data_label")
    if not isinstance(content, dict) or not set(keys) <= content.keys():
        raise DataError(f"{path}: expected a dictionary with {' and '.join(keys)}")
    found, label = (np.asarray(content[key]) for key in keys)
    if found.shape != label.shape or found.ndim != 3 or found.shape[1:] != (17, 3) or not len(found):
        raise DataError(f"{path}: data_input {found.shape} and data_label {label.shape}, expected (T, 17, 3) both")
    if not (np.isfinite(found).all() and np.isfinite(label).all()):
        raise DataError(f"{path}: holds NaN or infinity")
    if max(np.abs(found[..., :2]).max(), np.abs(label).max()) > 10:
        raise DataError(f"{path}: values reach {np.abs(label).max():.3g}; expected screen units, about -1 to 1")
    if plausible:
        check_bones(label, H36M, str(path))
    pixels = np.concatenate([denormalise_screen(label[..., :2], SIZE, SIZE), label[..., 2:] * (SIZE / 2)], axis=-1)
    found = np.concatenate([denormalise_screen(found[..., :2], SIZE, SIZE), found[..., 2:]], axis=-1)
    return Clip(
        name=f"{split}/{path.stem}", subject=f"{split} clips", action="clip", camera="unknown", split=split,
        width=SIZE, height=SIZE, poses=pixels.astype(np.float32), detections=found.astype(np.float32),
        factor=np.zeros(len(label), np.float32),
    )  # fmt: skip
