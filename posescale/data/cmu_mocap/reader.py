"""CMU motion capture: the prepared extract, or a tree of original .asf and .amc files, whichever is there."""

from collections.abc import Iterator
from pathlib import Path

from posescale.data.cmu_mocap.asf_amc import Skeleton, bone_ends, read_amc, read_asf
from posescale.data.cmu_mocap.extract import ARRAYS, INDEX, open_arrays, read_index, read_trial
from posescale.data.cmu_mocap.labels import action_of, native_fps, split_of
from posescale.data.cmu_mocap.mapping import FPS, clean_run, joints_of
from posescale.data.prepared import Clip
from posescale.data.reading import Reading, Trial, ViewSettings, no_folder, source_folder, views
from posescale.errors import DataError

ACKNOWLEDGEMENT = (
    "The data used in this project was obtained from mocap.cs.cmu.edu. "
    "The database was created with funding from NSF EIA-0196217."
)


class Settings(ViewSettings):
    """Cameras and detector; the motion is what the files hold."""


def missing(source: Path | None) -> str:
    """What is missing; empty when the extract or at least one .amc file is there."""
    folder = source_folder("cmu_mocap", source)
    if lacking := no_folder(folder):
        return lacking
    if _is_extract(folder) or _motions(folder):
        return ""
    return f"{folder} holds neither {ARRAYS} and {INDEX} nor .amc files"


def sources(folder: Path) -> list[Path]:
    """The files that are read: the extract's two, or every motion with its skeleton."""
    if _is_extract(folder):
        return [path for path in (folder / ARRAYS, folder / INDEX) if path.exists()]
    motions = _motions(folder)
    return [*motions, *{_skeleton_of(path) for path in motions}]


def _is_extract(folder: Path) -> bool:
    return (folder / ARRAYS).exists()


def _motions(folder: Path) -> list[Path]:
    """The .amc files of a folder, at most two folders deep: a root of other data may hold millions of files."""
    return sorted(path for pattern in ("*.amc", "*/*.amc", "*/*/*.amc") for path in folder.glob(pattern))


def read(source: Path | None, settings: Settings) -> Reading:
    """Read the extract if its files are in the folder, else the pairs of .asf and .amc below it.

    Raises:
        DataError: nothing to read, or a damaged file; names file and line or trial.
    """
    lacking = missing(source)
    if lacking:
        raise DataError(f"cmu_mocap: {lacking}; `posescale datasets` says how to get it")
    count, found = _trials(source_folder("cmu_mocap", source))
    return Reading(count * settings.cameras, _seen(found, settings), FPS, ACKNOWLEDGEMENT)


def trials(source: Path | None) -> Iterator[Trial]:
    """The recordings themselves, before any camera; as `read` otherwise."""
    return _trials(source_folder("cmu_mocap", source))[1]


def _trials(folder: Path) -> tuple[int, Iterator[Trial]]:
    return _extract(folder) if _is_extract(folder) else _originals(folder)


def _seen(found: Iterator[Trial], settings: Settings) -> Iterator[Clip]:
    for trial in found:
        yield from views(trial, settings)


def _extract(folder: Path) -> tuple[int, Iterator[Trial]]:
    index = read_index(folder)
    arrays = open_arrays(folder, index)

    def found() -> Iterator[Trial]:
        with arrays:
            for t in index.trials:
                yield Trial(t.id, t.subject, t.action, t.split, read_trial(arrays, t, folder / ARRAYS))

    return len(index.trials), found()


def _originals(folder: Path) -> tuple[int, Iterator[Trial]]:
    pairs = [(path, _skeleton_of(path)) for path in _motions(folder)]
    names = [path.stem for path, _ in pairs]
    double = sorted({name for name in names if names.count(name) > 1})
    if double:
        raise DataError(f"{folder}: trial {', '.join(double)} is there more than once; give the folder of one copy")
    skeletons: dict[Path, Skeleton] = {}

    def found() -> Iterator[Trial]:
        for amc, asf in pairs:
            if asf not in skeletons:
                skeletons[asf] = read_asf(asf)
            yield original(amc, skeletons[asf])

    return len(pairs), found()


def _skeleton_of(amc: Path) -> Path:
    """The .asf of a motion: of the same name, or named like its part before the underscore, in the same folder."""
    candidates = [amc.with_suffix(".asf"), amc.with_name(f"{amc.stem.split('_')[0]}.asf")]
    for path in candidates:
        if path.exists():
            return path
    names = " or ".join(dict.fromkeys(path.name for path in candidates))
    raise DataError(f"{amc}: its skeleton is missing: expected {names} in the same folder")


def original(amc: Path, skeleton: Skeleton) -> Trial:
    """One original file as a trial: forward kinematics, 17 joints, 60 fps, its longest run without joint flips.

    The subject is the part of the name before the underscore. Subjects and actions that `labels` does not know
    train, and are called `unlabelled`.
    """
    subject = amc.stem.split("_")[0]
    fps = native_fps(subject)
    joints = joints_of(bone_ends(skeleton, read_amc(amc, skeleton)), str(skeleton.path))
    joints = clean_run(joints[:: round(fps / FPS)], fps, str(amc))
    return Trial(amc.stem, subject, action_of(amc.stem), split_of(subject), joints)
