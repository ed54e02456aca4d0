"""Human3.6M as the field's code reads it: two families of files, whose numbers are not comparable.

sh   MotionBERT's and PoseMamba's pickle (or the clips cut from it): Stacked-Hourglass 2D, poses in image space
cpn  VideoPose3D's pair of .npz files with the dataset's own cameras: CPN or other 2D, poses in camera space
"""

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, model_validator

from posescale.data.h36m import clip_files, cpn, sh
from posescale.data.prepared import Split
from posescale.data.reading import Reading, no_folder, source_folder
from posescale.errors import UnavailableError

TRAIN, TEST = ("S1", "S5", "S6", "S7", "S8"), ("S9", "S11")
FPS = 50.0
PROTOCOLS = {  # 2D source -> protocol
    "sh": "h36m_sh_25d", "cpn_ft_h36m_dbb": "h36m_cpn_metric", "gt": "h36m_cpn_metric_gt2d",
    "detectron_ft_h36m": "h36m_metric_detectron", "sh_ft_h36m": "h36m_metric_sh",
}  # fmt: skip


class Settings(BaseModel):
    """Which files are read, and how.

    Attributes:
        family: sh or cpn.
        detections: the 2D file of the cpn family, `data_2d_h36m_<detections>.npz`; `gt` is the projection.
        validation: training subjects held out for validation, such as S8; the papers hold out none.
        plausible: refuse sequences whose bones or 2D cannot be (`posescale.data.plausible`).
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    family: Literal["sh", "cpn"] = "sh"
    detections: Literal["cpn_ft_h36m_dbb", "gt", "detectron_ft_h36m", "sh_ft_h36m"] | None = None
    validation: tuple[Literal["S1", "S5", "S6", "S7", "S8"], ...] = ()
    plausible: bool = True

    @model_validator(mode="before")
    @classmethod
    def _source_of_2d(cls, values: dict) -> dict:
        if isinstance(values, dict) and values.get("family") == "cpn" and values.get("detections") is None:
            return values | {"detections": "cpn_ft_h36m_dbb"}
        if isinstance(values, dict) and values.get("family", "sh") == "sh" and values.get("detections") is not None:
            raise ValueError("detections are chosen in family cpn only; give family=cpn too")
        return values

    def split_of(self, subject: str, official: Split | None = None) -> Split:
        """Split of a subject; `official` is the part of the file it was found in, if the file has parts."""
        if subject in self.validation:
            return "val"
        return official or ("test" if subject in TEST else "train")


def missing(source: Path | None) -> str:
    """What is missing; empty when the files of one family are there."""
    folder = source_folder("h36m", source)
    if wrong := no_folder(folder):
        return wrong
    lacking = {"sh": _lacking_sh(folder), "cpn": cpn.lacking(folder)}
    if "" in lacking.values() or not cpn.lacking(folder, "gt"):
        return ""
    return f"{folder}: family sh lacks {lacking['sh']}; family cpn lacks {lacking['cpn']}"


def missing_for(source: Path | None, settings: Settings) -> str:
    """What is missing of the family that the settings name; empty when nothing is."""
    folder = source_folder("h36m", source)
    if folder is None or not folder.is_dir():
        return missing(source)
    lacking = _lacking_sh(folder) if settings.family == "sh" else cpn.lacking(folder, settings.detections)
    return lacking and f"{folder}: family {settings.family} lacks {lacking}"


def _lacking_sh(folder: Path) -> str:
    return "" if sh.find(folder) or clip_files.find(folder) else f"{sh.FILE} (or its clips, H36M-SH/train and test)"


def read(source: Path | None, settings: Settings) -> Reading:
    """Read one family.

    Raises:
        UnavailableError: its files are not there.
        DataError: a damaged or implausible file; names file, key and sequence.
    """
    folder = source_folder("h36m", source)
    lacking = _lacking_sh(folder) if settings.family == "sh" else cpn.lacking(folder, settings.detections)
    if lacking:
        raise UnavailableError(f"h36m, family {settings.family}: {folder} lacks {lacking}")
    if settings.family == "cpn":
        total, clips = cpn.read(folder, settings.detections, settings.split_of, settings.plausible)
        return Reading(total, clips, FPS, protocol=PROTOCOLS[settings.detections])
    if path := sh.find(folder):
        total, clips = sh.read(path, settings.split_of, settings.plausible)
    else:
        total, clips = clip_files.read(clip_files.find(folder), settings.plausible)
    return Reading(total, clips, FPS, space="image", protocol=PROTOCOLS["sh"])
