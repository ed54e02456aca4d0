"""MPI-INF-3DHP: the original .mat files or the npz made from them; the same arrays result from both."""

import logging
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, field_validator

from posescale.data.catalog import dataset_card
from posescale.data.mpi_inf_3dhp import mat_files, npz_files
from posescale.data.mpi_inf_3dhp.recording import CAMERAS, TEST_NAME, TRAIN_NAME, USUAL_CAMERAS, Recording, check
from posescale.data.prepared import Clip, Split
from posescale.data.reading import Reading, no_folder, source_folder
from posescale.data.skeleton import MPI_INF_3DHP
from posescale.errors import ConfigError, DataError

log = logging.getLogger(__name__)
ID = "mpi_inf_3dhp"
METRES = 0.001
Subject = Literal["S1", "S2", "S3", "S4", "S5", "S6", "S7", "S8"]
Part = tuple[int, Iterable[Recording]]  # how many recordings, and one after another


class Settings(BaseModel):
    """Which files are read, and what of them.

    Attributes:
        files: mat (the original ones) or npz; auto takes the original ones where they are.
        annotation: univ, the poses scaled to the universal skeleton, which the field trains and scores on; or
            metric, in the actors' own sizes (original files only).
        cameras: of the 14 that see the training subjects.
        validation: training subjects held out for validation, such as S8; the papers hold out none.
        plausible: refuse sequences whose bones or 2D cannot be.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    files: Literal["auto", "mat", "npz"] = "auto"
    annotation: Literal["univ", "metric"] = "univ"
    cameras: tuple[int, ...] = Field(default=USUAL_CAMERAS, min_length=1)
    validation: tuple[Subject, ...] = ()
    plausible: bool = True

    @field_validator("cameras")
    @classmethod
    def _known(cls, cameras: tuple[int, ...]) -> tuple[int, ...]:
        if set(cameras) - set(CAMERAS) or len(set(cameras)) < len(cameras):
            raise ValueError(f"cameras are numbered 0 to {len(CAMERAS) - 1}, each at most once")
        return tuple(sorted(cameras))


def missing(source: Path | None) -> str:
    """What is missing; empty when training or test files are there."""
    folder = source_folder(ID, source)
    if lacking := no_folder(folder):
        return lacking
    if sources(folder):
        return ""
    return (
        f"{folder} holds neither S*/Seq*/annot.mat, mpi_inf_3dhp_test_set/TS*/annot_data.mat, "
        f"{npz_files.TRAIN} nor {npz_files.TEST}"
    )


def read(source: Path | None, settings: Settings) -> Reading:
    """Read what is there of training and test.

    Raises:
        DataError: nothing to read, or a damaged or implausible file; names file, variable and sequence.
        ConfigError: metric poses were asked for of npz files, which have none.
    """
    lacking = missing(source)
    if lacking:
        raise DataError(f"{ID}: {lacking}; `posescale datasets {ID}` says how to get it")
    folder = source_folder(ID, source)
    parts = {"training": _train(folder, settings), "test": _test(folder, settings)}
    for name, (count, _) in parts.items():
        if not count:
            log.warning("%s: no %s files of kind %s are there; that part stays empty", folder, name, settings.files)
    total = sum(count for count, _ in parts.values())
    if not total:
        raise DataError(f"{folder}: no files of kind {settings.files}; give --set files=auto")
    recordings = (recording for _, part in parts.values() for recording in part)
    with_activity = settings.files != "npz" and bool(mat_files.test_files(folder))
    acknowledgement = " ".join(dataset_card(ID).acknowledgement.split())
    return Reading(total, _clips(recordings, settings, with_activity), 0.0, acknowledgement, skeleton=MPI_INF_3DHP)


def sources(folder: Path) -> list[Path]:
    """The files that may be read, for whoever must know when one changed."""
    npz = [npz_files.find(folder, name) for name in (npz_files.TRAIN, npz_files.TEST)]
    mats = [*mat_files.train_files(folder).values(), *mat_files.test_files(folder).values()]
    return mats + [path for path in npz if path]


def _train(folder: Path, settings: Settings) -> Part:
    files = mat_files.train_files(folder) if settings.files != "npz" else {}
    if files:
        read = lambda name: mat_files.read_train(name, files[name], settings.cameras, settings.annotation)  # noqa: E731
        return _part(files, read, len(settings.cameras))
    path = npz_files.find(folder, npz_files.TRAIN) if settings.files != "mat" else None
    if path is None:
        return 0, []
    _check_univ(path, settings)
    content = npz_files.load(path, TRAIN_NAME)
    read = lambda name: npz_files.read_train(name, content[name], settings.cameras, path)  # noqa: E731
    return _part(content, read, len(settings.cameras))


def _test(folder: Path, settings: Settings) -> Part:
    files = mat_files.test_files(folder) if settings.files != "npz" else {}
    if files:
        return _part(files, lambda name: [mat_files.read_test(name, files[name], settings.annotation)])
    path = npz_files.find(folder, npz_files.TEST) if settings.files != "mat" else None
    if path is None:
        return 0, []
    _check_univ(path, settings)
    content = npz_files.load(path, TEST_NAME)
    return _part(content, lambda name: [npz_files.read_test(name, content[name], path)])


def _part(names: Iterable[str], read: Callable[[str], Iterable[Recording]], each: int = 1) -> Part:
    names = list(names)
    return each * len(names), (recording for name in names for recording in read(name))


def _check_univ(path: Path, settings: Settings) -> None:
    if settings.annotation != "univ":
        raise ConfigError(f"{path} holds poses of the universal skeleton only; annotation=metric needs the .mat files")


def _clips(recordings: Iterable[Recording], settings: Settings, with_activity: bool) -> Iterator[Clip]:
    for r in recordings:
        if settings.plausible:
            check(r)
        activity = np.zeros(len(r.mm), np.uint8) if r.activity is None else r.activity
        subject = r.name.split(" ")[0]
        width, height = r.size
        yield Clip(
            name=f"{r.name}.{r.camera}", subject=subject, action=r.name.split(" ")[-1], camera=r.camera,
            split=_split_of(subject, settings), width=width, height=height,
            poses=(r.mm * METRES).astype(np.float32), exact=r.pixels.astype(np.float32),
            valid=np.ones(len(r.mm), bool) if r.valid is None else r.valid,
            activity=activity if with_activity else None, performance=r.name, fps=r.fps,
        )  # fmt: skip


def _split_of(subject: str, settings: Settings) -> Split:
    if subject.startswith("TS"):
        return "test"
    return "val" if subject in settings.validation else "train"
