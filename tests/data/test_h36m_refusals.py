"""Human3.6M files that are wrong: each is refused in words, nothing is run, nothing is written."""

import copy
import json
import pickle
from dataclasses import replace

import numpy as np
import pytest
from h36m_files import FRAMES, prepared, write_cpn, write_sh

from posescale.data.h36m.cameras import IDS
from posescale.data.h36m.cpn import KEPT
from posescale.errors import DataError

CPN = {"family": "cpn"}


# --- malformed pickles ------------------------------------------------------------------------------------------------


class Malicious:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (self.path, "w")


def _swapped(array, a, b):
    new = array.copy()
    new[:, a], new[:, b] = array[:, b], array[:, a]
    return new


def _set(part, key, change):
    def apply(content):
        content[part][key] = change(content[part][key])

    return apply


def _drop(part, key):
    return lambda content: content[part].pop(key)


def _at(index, value):
    def change(array):
        new = array.astype(object) if isinstance(value, str) else array.copy()
        new[index] = value
        return np.array(new.tolist()) if isinstance(value, str) else new

    return change


def _repeat_video(content):
    test = content["test"]
    content["test"] = {key: np.concatenate([value, value[:FRAMES]]) for key, value in test.items()}


def _all_joints(change):
    """The same change of the joints in 2D and 3D, so that only their order is wrong."""

    def apply(content):
        for key in ("joint_2d", "joint3d_image", "joints_2.5d_image"):
            content["test"][key] = change(content["test"][key])

    return apply


def _metres(content):
    for key in ("2.5d_factor", "joints_2.5d_image"):
        content["test"][key] = content["test"][key] / 1000


def _other_sides(array):
    order = [0, 4, 5, 6, 1, 2, 3, 7, 8, 9, 10, 14, 15, 16, 11, 12, 13]
    return array[:, order]


SH_WRONG = {
    "no parts": (lambda c: c.clear(), "dictionary with train and test"),
    "a part is missing": (lambda c: c.pop("train"), "found test"),
    "a part is no dictionary": (lambda c: c.update(test=[1, 2]), "found list"),
    "a key is missing": (_drop("test", "joint3d_image"), "lacks joint3d_image"),
    "a test key is missing": (_drop("test", "2.5d_factor"), r"lacks 2\.5d_factor"),
    "no frame": (lambda c: c.update(test={k: v[:0] for k, v in c["test"].items()}), "no frame"),
    "16 joints": (_set("train", "joint_2d", lambda a: a[:, :16]), r"joint_2d has shape \(256, 16, 2\), expected"),
    "lengths differ": (_set("test", "joint3d_image", lambda a: a[:-1]), "joint3d_image has shape"),
    "text for numbers": (_set("test", "2.5d_factor", lambda a: a.astype(str)), "expected numbers"),
    "confidence of 3": (_set("test", "confidence", lambda a: 3 * a), "confidence reaches"),
    "confidence of other joints": (_set("test", "confidence", lambda a: a[:, :3]), "confidence has shape"),
    "NaN in 2D": (_set("train", "joint_2d", _at((70, 3), np.nan)), "joint_2d holds NaN or infinity, first in frame 6"),
    "infinite depth": (_set("test", "joint3d_image", _at((3, 1, 2), np.inf)), "joint3d_image holds NaN"),
    "unknown camera": (_set("test", "camera_name", lambda a: np.array(["cam1"] * len(a))), "camera_name is 'cam1'"),
    "camera changes": (_set("test", "camera_name", _at(5, "58860488")), "camera_name changes .* in frame 5"),
    "action changes": (_set("test", "action", _at(7, "Walk")), "action changes"),
    "source of no video": (_set("test", "source", _at(0, "S9")), "source 'S9'"),
    "a video twice": (_repeat_video, "comes twice"),
    "subject in both": (_set("test", "source", lambda a: np.char.replace(a, "s_09", "s_01")), "S1 are in train and in"),
    "factor of zero": (_set("test", "2.5d_factor", _at(2, 0.0)), "above 0"),
    "metres": (_set("test", "joints_2.5d_image", lambda a: a / 1000), "metres; millimetres are expected"),
    "another factor": (_set("test", "2.5d_factor", lambda a: 1.1 * a), "expected the same pose"),
    "factor and target in metres": (_metres, "look like metres"),
    "2D in screen units": (_set("test", "joint_2d", lambda a: a / 500 - 1), "Are they in pixels"),
    "2D of other videos": (_set("test", "joint_2d", lambda a: np.flip(a, 0) + 300), "same video"),
    "2D joints in another order": (_set("test", "joint_2d", lambda a: a[:, ::-1]), "2D joints .* in another order"),
    "knee and ankle exchanged": (_all_joints(lambda a: _swapped(_swapped(a, 2, 3), 5, 6)), "the thigh is"),
    "one elbow and wrist exchanged": (_all_joints(lambda a: _swapped(a, 12, 13)), "left upper arm"),
    "left and right exchanged": (_all_joints(_other_sides), "left and right exchanged"),
}  # fmt: skip


@pytest.mark.parametrize("case", SH_WRONG)
def test_a_wrong_pickle_is_refused_in_words(tmp_path, sh, case):
    change, words = SH_WRONG[case]
    content = copy.deepcopy(sh)
    change(content)
    write_sh(tmp_path / "raw", content)
    with pytest.raises(DataError, match=words) as refusal:
        prepared(tmp_path)
    assert "h36m_sh_conf_cam_source_final.pkl" in str(refusal.value) and not (tmp_path / "out").exists()


def test_a_torn_or_malicious_pickle_is_refused(tmp_path, sh):
    path = write_sh(tmp_path / "raw", sh) / "h36m_sh_conf_cam_source_final.pkl"
    whole = path.read_bytes()
    for damage in (whole[: len(whole) // 2], b"", b"not a pickle"):
        path.write_bytes(damage)
        with pytest.raises(DataError, match="torn, or not a pickle"):
            prepared(tmp_path)
    target = tmp_path / "written"
    path.write_bytes(pickle.dumps({"train": Malicious(str(target)), "test": {}}))
    with pytest.raises(DataError, match=r"asks for (_?io|builtins)\.open.*Nothing was run"):
        prepared(tmp_path)
    assert not target.exists()


def test_implausible_data_can_be_insisted_on(tmp_path, sh):
    content = copy.deepcopy(sh)
    _all_joints(lambda a: _swapped(a, 12, 13))(content)
    write_sh(tmp_path / "raw", content)
    assert len(prepared(tmp_path, {"plausible": False}).sequences("test")) == 6


# --- malformed npz pairs ----------------------------------------------------------------------------------------------


def _poses(change, subject="S9", action="Greeting"):
    def apply(content):
        content["poses"][subject][action] = change(content["poses"][subject][action])

    return apply


def _tracks(change, subject="S9", action="Greeting"):
    def apply(content):
        content["tracks"][subject][action] = change(content["tracks"][subject][action])

    return apply


def _turned_cameras(content):
    rig = content["rigs"]["S9"]
    content["rigs"]["S9"] = [replace(c, id=id) for c, id in zip(rig[1:] + rig[:1], IDS, strict=True)]


def _kept(change):
    """A change of the 17 kept joints among the 32."""

    def apply(array):
        new = array.copy()
        new[:, KEPT] = change(array[:, KEPT])
        return new

    return apply


CPN_WRONG = {
    "poses are no dictionary": (lambda c: c.update(poses=[1]), "not a dictionary of subjects"),
    "a subject without actions": (lambda c: c["poses"].update(S9={}), "S9 holds no action"),
    "unknown subject": (lambda c: c["poses"].update(S2=c["poses"].pop("S9")), "subject 'S2'"),
    "31 joints": (_poses(lambda a: a[:, :31]), r"shape \(64, 31, 3\), expected \(F, 32, 3\)"),
    "empty video": (_poses(lambda a: a[:0]), "with a frame at least"),
    "NaN": (_poses(_at((9, 3, 1), np.nan)), "NaN or infinity, first in frame 9"),
    "millimetres": (_poses(lambda a: 1000 * a), "look like millimetres"),
    "mirrored axis": (_poses(lambda a: a * np.float32([-1, 1, 1])), "axis mirrored"),
    "joints in another order": (_poses(_kept(lambda a: _swapped(a, 1, 3))), "another order"),
    "action without 2D": (lambda c: c["tracks"]["S9"].pop("Greeting"), "has no S9 Greeting"),
    "three cameras": (_tracks(lambda t: t[:3]), "has 3 cameras, expected 4"),
    "2D too short": (_tracks(lambda t: [x[:-5] for x in t]), "2D joints of 60 frames, but poses of 64"),
    "2D of 16 joints": (_tracks(lambda t: [x[:, :16] for x in t]), "2D joints have shape"),
    "NaN in 2D": (_tracks(lambda t: [_at((2, 1), np.nan)(x) for x in t]), "2D joints hold NaN"),
    "2D in screen units": (_tracks(lambda t: [x / 500 - 1 for x in t]), "Are they in pixels"),
    "2D joints in another order": (_tracks(lambda t: [_swapped(_swapped(x, 2, 13), 3, 16) for x in t]), "2D joints"),
    "another layout": (lambda c: c["metadata"].update(layout_name="coco", keypoints_symmetry=[[1], [2]]), "'coco'"),
    "no layout": (lambda c: c.update(metadata=None), "laid out as None"),
    "cameras of another subject": (lambda c: c["rigs"].pop("S9"), "has no cameras of S9"),
    "cameras exchanged": (_turned_cameras, "same video and camera"),
}  # fmt: skip


@pytest.mark.parametrize("case", CPN_WRONG)
def test_a_wrong_npz_pair_is_refused_in_words(tmp_path, cpn, case):
    change, words = CPN_WRONG[case]
    content = copy.deepcopy(cpn)
    change(content)
    write_cpn(tmp_path / "raw", content)
    with pytest.raises(DataError, match=words):
        prepared(tmp_path, CPN)
    assert not (tmp_path / "out").exists()


CAMERAS_WRONG = {
    "torn": (lambda text: text[:-40], "torn, or not XML"),
    "no numbers": (lambda text: text.replace("w0", "w1"), "w0 has 0 numbers, expected 300"),
    "fewer numbers": (lambda text: text.replace(" ", "", 1), "w0"),
    "a word": (lambda text: text.replace("[", "[zero ", 1), "element w0: could not convert"),
    "unknown camera": (lambda text: text.replace(IDS[0], "12345678"), "names 12345678"),
    "no cameras": (lambda text: text.replace("index2id", "index"), "names no cameras"),
}


@pytest.mark.parametrize("case", CAMERAS_WRONG)
def test_wrong_metadata_is_refused_in_words(tmp_path, cpn, case):
    change, words = CAMERAS_WRONG[case]
    write_cpn(tmp_path / "raw", cpn)
    path = tmp_path / "raw" / "metadata.xml"
    path.write_text(change(path.read_text()))
    with pytest.raises(DataError, match=words) as refusal:
        prepared(tmp_path, CPN)
    assert "metadata.xml" in str(refusal.value)


def _json(change):
    def apply(text):
        content = json.loads(text)
        change(content["cameras"]["S9"])
        return json.dumps(content)

    return apply


JSON_WRONG = {
    "not json": (lambda text: "{", "not a file of cameras"),
    "other keys": (lambda text: "{}", "lacks 'cameras'"),
    "key missing": (_json(lambda rig: rig[0].pop("center")), "lacks 'center'"),
    "two distortions": (_json(lambda rig: rig[0].update(radial_distortion=[0, 0])), "expected 2 . 2 . 3 . 2"),
    "place in metres": (_json(lambda rig: rig[1].update(translation=[4.0, 3.0, 1.5])), "expected its place in mm"),
    "focal length of one": (_json(lambda rig: rig[1].update(focal_length=[1.1, 1.1])), "expected pixels"),
    "wrong name": (_json(lambda rig: rig[1].update(id="cam2")), "has cameras .*cam2"),
    "three cameras": (_json(lambda rig: rig.pop()), "has cameras"),
}


@pytest.mark.parametrize("case", JSON_WRONG)
def test_a_wrong_camera_file_is_refused_in_words(tmp_path, cpn, case):
    change, words = JSON_WRONG[case]
    write_cpn(tmp_path / "raw", cpn, xml=False)
    path = tmp_path / "raw" / "cameras.json"
    path.write_text(change(path.read_text()))
    with pytest.raises(DataError, match=words) as refusal:
        prepared(tmp_path, CPN)
    assert "cameras.json" in str(refusal.value)


@pytest.mark.parametrize("name", ["data_3d_h36m.npz", "data_2d_h36m_cpn_ft_h36m_dbb.npz"])
def test_torn_or_malicious_npz_are_refused(tmp_path, cpn, name):
    path = write_cpn(tmp_path / "raw", cpn) / name
    whole = path.read_bytes()
    for damage in (whole[: len(whole) // 2], b"", b"PK\x03\x04 nonsense"):
        path.write_bytes(damage)
        with pytest.raises(DataError, match=name):
            prepared(tmp_path, CPN)
    np.savez(path, something=np.zeros(3))
    with pytest.raises(DataError, match="has no entry .*holds something"):
        prepared(tmp_path, CPN)
    target = tmp_path / "written"
    entries = dict.fromkeys(("positions_3d", "positions_2d", "metadata"))
    np.savez(path, **{key: np.array(Malicious(str(target)), dtype=object) for key in entries})
    with pytest.raises(DataError, match="Nothing was run"):
        prepared(tmp_path, CPN)
    assert not target.exists()
