"""Cameras of Human3.6M: from the dataset's own `metadata.xml`, or from a `cameras.json`.

`metadata.xml` holds, in its element `w0`, 300 numbers in brackets. For camera c and subject s of 11, both from 0,
numbers 6 (11 c + s) onwards are three angles and the camera's place in mm; numbers 264 + 9 c onwards are focal lengths,
centre, k1 k2 k3 and p1 p2. World to camera is X_c = Rx Ry Rz (X - t), with the usual rotations about x, y and z by the
three angles. `dbcameras/index2id` names the cameras in that order.

`cameras.json` is `{"cameras": {"S1": [{"id", "res_w", "res_h", "focal_length", "center", "radial_distortion",
"tangential_distortion", "orientation", "translation"}, ...], ...}}`: pixels, unit quaternion (w, x, y, z) from camera
to world, place in mm, p1 p2 in VideoPose3D's order (the reverse of the metadata's).
"""

import json
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from posescale.data.camera import Camera, quaternion_of
from posescale.errors import DataError

IDS = ("54138969", "55011271", "58860488", "60457274")  # the order of the published 2D files
SIZES = {"54138969": (1000, 1002), "55011271": (1000, 1000), "58860488": (1000, 1000), "60457274": (1000, 1002)}
FILES = ("metadata.xml", "cameras.json")
SUBJECTS, NUMBERS = 11, 300

Rig = dict[str, list[Camera]]  # subject, such as S1 -> cameras in the order of IDS


def read_cameras(path: Path) -> Rig:
    """The cameras of every subject a file knows.

    Raises:
        DataError: the file is missing or damaged, a camera is missing or unknown, or a number cannot be.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read: {error}") from error
    rig = _from_xml(text, path) if path.suffix == ".xml" else _from_json(text, path)
    for subject, cameras in rig.items():
        ids = [camera.id for camera in cameras]
        if sorted(ids) != sorted(IDS):
            raise DataError(f"{path}: subject {subject} has cameras {', '.join(ids)}; expected {', '.join(IDS)}")
        cameras.sort(key=lambda camera: IDS.index(camera.id))
        for camera in cameras:
            _check(camera, f"{path}: subject {subject}, camera {camera.id}")
    return rig


def _check(camera: Camera, where: str) -> None:
    distance = float(np.linalg.norm(camera.position))
    if not 0.5 < distance < 50:
        raise DataError(f"{where}: stands {distance:.3g} m from the origin; expected its place in mm, metres away")
    if not all(100 < f < 10_000 for f in camera.focal) or not all(0 < c < 5000 for c in camera.centre):
        raise DataError(f"{where}: focal lengths {camera.focal} and centre {camera.centre}; expected pixels")


def _camera(id: str, size: tuple[int, int], rotation: np.ndarray, place_mm: np.ndarray, inner: np.ndarray) -> Camera:
    """A camera from its rotation (camera to world) and the nine inner numbers, p in VideoPose3D's order."""
    inner = [float(v) for v in inner]
    return Camera(
        id=id, orientation=quaternion_of(rotation), position=tuple(float(v) / 1000 for v in place_mm),
        focal=(inner[0], inner[1]), centre=(inner[2], inner[3]), width=size[0], height=size[1],
        radial=(inner[4], inner[5], inner[6]), tangential=(inner[7], inner[8]),
    )  # fmt: skip


def _from_xml(text: str, path: Path) -> Rig:
    try:
        root = ElementTree.fromstring(text)
    except ElementTree.ParseError as error:
        raise DataError(f"{path}: torn, or not XML: {error}") from error
    ids = [element.text or "" for element in root.findall("dbcameras/index2id/*")]
    unknown = [id for id in ids if id not in SIZES]
    if len(ids) != len(IDS) or unknown:
        raise DataError(
            f"{path}: dbcameras/index2id names {', '.join(ids) or 'no cameras'}; expected {', '.join(IDS)}; is this "
            "Human3.6M's own metadata.xml?"
        )
    numbers = _numbers(root.findtext("w0"), path)
    places, inner = numbers[:264].reshape(len(IDS), SUBJECTS, 6), numbers[264:].reshape(len(IDS), 9)
    return {
        f"S{subject + 1}": [
            _camera(id, SIZES[id], _turn(places[c, subject, :3]).T, places[c, subject, 3:], _swapped(inner[c]))
            for c, id in enumerate(ids)
        ]
        for subject in range(SUBJECTS)
        if places[:, subject, 3:].any()
    }


def _numbers(text: str | None, path: Path) -> np.ndarray:
    words = (text or "").strip().strip("[]").replace(",", " ").split()
    try:
        numbers = np.array([float(word) for word in words])
    except ValueError as error:
        raise DataError(f"{path}: element w0: {error}") from error
    if numbers.shape != (NUMBERS,) or not np.isfinite(numbers).all():
        raise DataError(f"{path}: element w0 has {len(words)} numbers, expected {NUMBERS} finite ones; get it again")
    return numbers


def _swapped(inner: np.ndarray) -> np.ndarray:
    """The metadata's p1 p2 in VideoPose3D's order."""
    return np.concatenate([inner[:7], inner[:6:-1]])


def _turn(angles: np.ndarray) -> np.ndarray:
    """Rx Ry Rz of three angles."""
    (cx, cy, cz), (sx, sy, sz) = np.cos(angles), np.sin(angles)
    about_x = np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_z = np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
    return about_x @ about_y @ about_z


def _from_json(text: str, path: Path) -> Rig:
    try:
        subjects = json.loads(text)["cameras"]
        return {subject: [_json_camera(entry) for entry in entries] for subject, entries in subjects.items()}
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        what = f"lacks {error}" if isinstance(error, KeyError) else str(error)
        raise DataError(f"{path}: not a file of cameras ({what}); its keys are in docs/data.md") from error


def _json_camera(entry: dict) -> Camera:
    w, x, y, z = entry["orientation"]
    inner = [*entry["focal_length"], *entry["center"], *entry["radial_distortion"], *entry["tangential_distortion"]]
    if len(inner) != 9 or len(entry["translation"]) != 3:
        raise ValueError(f"camera {entry['id']}: expected 2 + 2 + 3 + 2 inner numbers and a place of 3")
    return Camera(
        id=str(entry["id"]), orientation=(w, x, y, z), position=tuple(v / 1000 for v in entry["translation"]),
        focal=tuple(inner[:2]), centre=tuple(inner[2:4]), width=int(entry["res_w"]), height=int(entry["res_h"]),
        radial=tuple(inner[4:7]), tangential=tuple(inner[7:]),
    )  # fmt: skip
