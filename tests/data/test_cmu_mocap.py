import json
import logging
import re

import numpy as np
import pytest
from acclaim_files import BONES, amc_text, asf_text, channels
from scipy.spatial.transform import Rotation

from posescale.data import catalog
from posescale.data.cmu_mocap.asf_amc import METRES, bone_ends, read_amc, read_asf
from posescale.data.cmu_mocap.labels import action_of, native_fps, split_of
from posescale.data.cmu_mocap.mapping import BONES as JOINT_BONES
from posescale.data.cmu_mocap.mapping import clean_run, joints_of
from posescale.data.prepared import PreparedData
from posescale.data.skeleton import JOINTS, PARENTS
from posescale.data.verify import verify
from posescale.errors import ConfigError, DataError, UnavailableError

FRAME_LINES = 2 + sum(bool(b[4]) for b in BONES.values())  # number, root and every bone that moves


def _read(pair):
    skeleton = read_asf(pair[0])
    return skeleton, read_amc(pair[1], skeleton)


def test_every_channel_comes_back(pair):
    skeleton, motion = _read(pair)
    assert len(skeleton.bones) == 31 and motion.frames == 40
    for name, values in channels(40).items():
        assert np.array_equal(motion.values[name], values), name


def test_forward_kinematics_against_scipy(pair):
    skeleton, motion = _read(pair)
    ends, values = bone_ends(skeleton, motion), channels(40)
    turned = {"root": Rotation.from_euler("xyz", values["root"][:, 3:], degrees=True)}
    expected = {"root": values["root"][:, :3]}
    for name, (parent, direction, length, axis, dof) in BONES.items():
        turned[name] = turned[parent]
        if dof:
            frame = Rotation.from_euler("xyz", axis, degrees=True)
            angles = Rotation.from_euler(dof.replace("r", "").replace(" ", ""), values[name], degrees=True)
            turned[name] = turned[parent] * frame * angles * frame.inv()
        expected[name] = expected[parent] + turned[name].apply(np.array(direction) * length)
    for name, end in expected.items():
        assert np.abs(ends[name] - end * METRES).max() < 1e-12, name


def test_a_quarter_turn_by_hand(pair):
    values = {name: np.zeros((1, v.shape[1])) for name, v in channels(1).items()}
    values["root"][0] = [1, 17, 2, 0, 90, 0]  # about y: z goes to x, x to -z
    pair[1].write_text(amc_text(values))
    ends = bone_ends(*_read(pair))
    assert np.allclose(ends["lhipjoint"][0], np.add([1, 17, 2], [0.0, -2.0, -1.5]) * METRES)
    joints = joints_of(ends, "test")[0]
    assert np.allclose(joints[0], np.array([1, -2, 15]) * METRES)  # z up: the middle of the hips
    assert np.allclose(joints[4] - joints[1], np.array([0, 3.0, 0]) * METRES)


def test_windows_line_ends_and_comments_are_fine(pair):
    before = bone_ends(*_read(pair))
    for path in pair:
        path.write_bytes(b"# again\r\n" + path.read_bytes().replace(b"\n", b"\r\n"))
    after = bone_ends(*_read(pair))
    assert all(np.array_equal(before[name], after[name]) for name in before)


def _cut_tail(text, frames, keep):
    """The first `frames` frames and `keep` characters of the next."""
    lines = text.splitlines(keepends=True)
    whole = 3 + frames * FRAME_LINES
    return "".join(lines[:whole]) + "".join(lines[whole:])[:keep]


@pytest.mark.parametrize("keep", [1, 2, 3, 6, 15, 60, 200, 400, 550])
def test_a_file_torn_in_its_last_frame_loses_that_frame_aloud(pair, caplog, keep):
    text = _cut_tail(amc_text(channels(120)), 111, keep)
    pair[1].write_text(text)
    with caplog.at_level(logging.WARNING):
        _, motion = _read(pair)
    assert motion.frames == 111 and len(caplog.records) == 1
    line = 4 + 111 * FRAME_LINES
    assert f"{pair[1]}:{line}" in caplog.text and "111 frames remain" in caplog.text


def test_every_possible_cut_in_the_last_frame_is_recognised(pair, caplog):
    text = amc_text(channels(3))
    start = text.index("\n3\n") + 1
    last_value = text.rstrip("\n").rindex(" ")
    for end in range(start + 1, last_value + 1, 7):
        pair[1].write_text(text[:end])
        assert _read(pair)[1].frames == 2, text[end - 30 : end]


def test_a_whole_last_line_without_line_feed_is_whole(pair, caplog):
    pair[1].write_text(amc_text(channels(4)).rstrip("\n"))
    assert _read(pair)[1].frames == 4 and not caplog.records


def _line_of(text, name, frame):
    """Line number (from 1) of a bone in a frame (from 0)."""
    return 3 + frame * FRAME_LINES + 2 + list(channels(1)).index(name)


def _edit(name, frame, new):
    def change(text):
        lines = text.splitlines(keepends=True)
        lines[_line_of(text, name, frame) - 1] = new
        return "".join(lines)

    return change


AMC_DAMAGE = {
    "empty": (lambda t: "", "empty"),
    "blank": (lambda t: " \n\n", "empty"),
    "header only": (lambda t: ":FULLY-SPECIFIED\n:DEGREES\n", "at least one frame"),
    "torn in the only frame": (lambda t: _cut_tail(t, 0, 100), ":"),
    "torn in the header": (lambda t: t[:20], "frame"),
    "unknown bone": (_edit("head", 5, "tail 1 2 3\n"), "tail"),
    "unknown bone in the last frame": (_edit("head", 9, "tail 1 2 3\n"), "tail"),
    "too few values": (_edit("head", 5, "head 1 2\n"), "expected 3 numbers for head, found 2"),
    "too many values": (_edit("head", 5, "head 1 2 3 4\n"), "expected 3 numbers for head, found 4"),
    "too few in the last frame": (_edit("head", 9, "head 1 2\n"), "expected 3 numbers for head, found 2"),
    "too few in the last line": (_edit(list(channels(1))[-1], 9, "rthumb 1\n"), "expected 2 numbers for rthumb"),
    "no number": (_edit("head", 5, "head 1 2 x3\n"), "head"),
    "NaN": (_edit("head", 5, "head 1 nan 3\n"), "finite"),
    "NaN in the last frame": (_edit("head", 9, "head 1 nan 3\n"), "finite"),
    "infinity": (_edit("root", 0, "root 1 2 3 inf 5 6\n"), "finite"),
    "bone twice": (_edit("head", 5, "thorax 1 2 3\n"), "thorax again"),
    "bone missing": (_edit("head", 5, ""), "without head"),
    "bone missing in the last frame": (_edit("head", 9, ""), "without head"),
    "frame repeated": (lambda t: t.replace("\n6\n", "\n5\n"), "frame number 6"),
    "frame skipped": (lambda t: t.replace("\n6\n", "\n7\n"), "frame number 6"),
    "frames going back": (lambda t: t.replace("\n6\n", "\n-6\n"), "frame number 6"),
    "no :DEGREES": (lambda t: t.replace(":DEGREES\n", ""), ":DEGREES"),
    ":RADIANS": (lambda t: t.replace(":DEGREES", ":RADIANS"), "RADIANS"),
    "no :FULLY-SPECIFIED": (lambda t: t.replace(":FULLY-SPECIFIED\n", ""), ":FULLY-SPECIFIED"),
    "torn in the middle": (lambda t: t[:3000] + t[4000:], ":"),
    "not text": (lambda t: "\x00\x01\x02" * 50, "frame"),
}


@pytest.mark.parametrize("kind", AMC_DAMAGE)
def test_damaged_motions_are_refused_with_file_and_line(pair, kind):
    damage, words = AMC_DAMAGE[kind]
    pair[1].write_text(damage(amc_text(channels(10))))
    with pytest.raises(DataError, match=re.escape(str(pair[1]))) as refusal:
        _read(pair)
    message = str(refusal.value)
    assert words in message and "\n" not in message
    assert "empty" in message or re.search(r"\.amc:\d+: ", message), message


def test_the_line_number_is_the_right_one(pair):
    text = amc_text(channels(10))
    pair[1].write_text(_edit("lwrist", 7, "lwrist 1 2\n")(text))
    with pytest.raises(
        DataError, match=rf"\.amc:{_line_of(text, 'lwrist', 7)}: expected 1 numbers for lwrist, found 2"
    ):
        _read(pair)


ASF_DAMAGE = {
    "empty": (lambda t: "", "empty"),
    "torn": (lambda t: t[: len(t) // 2], "hierarchy"),
    "torn in the hierarchy": (lambda t: t[: t.index("lradius lwrist")], "no parent of"),
    "radians": (lambda t: t.replace("angle deg", "angle rad"), "angle deg"),
    "other length unit": (lambda t: t.replace("length 0.45", "length 1.0"), "0.45"),
    "no units": (lambda t: t.replace(":units", ":unknown"), ":units"),
    "bone twice": (lambda t: t.replace("name rtoes", "name ltoes"), "ltoes"),
    "no length": (lambda t: t.replace("     length 7.6 \n", "", 1), "length"),
    "negative length": (lambda t: t.replace("length 7.6", "length -7.6", 1), "negative"),
    "NaN in a direction": (lambda t: t.replace("direction 0.6 -0.8 0.0", "direction nan -0.8 0.0"), "finite"),
    "direction not of length 1": (lambda t: t.replace("direction 0.6 -0.8 0.0", "direction 6 -8 0"), "length 1"),
    "axis order": (lambda t: t.replace("axis 0 0 20  XYZ", "axis 0 0 20  ZYX", 1), "ZYX"),
    "unknown angle": (lambda t: t.replace("dof rx ry rz", "dof rx ry l", 1), "rx ry l"),
    "two parents": (lambda t: t.replace("    lhand lfingers\n", "    lhand lfingers head\n"), "head"),
    "unknown child": (lambda t: t.replace("    lhand lfingers\n", "    lhand lfingers tail\n"), "tail"),
    "root order": (lambda t: t.replace("TX TY TZ RX RY RZ", "RX RY RZ TX TY TZ"), "order"),
    "root moved": (lambda t: t.replace("position 0 0 0", "position 0 1 0"), "position"),
}


@pytest.mark.parametrize("kind", ASF_DAMAGE)
def test_damaged_skeletons_are_refused_with_the_file(pair, kind):
    damage, words = ASF_DAMAGE[kind]
    text = damage(asf_text())
    assert text != asf_text()
    pair[0].write_text(text)
    with pytest.raises(DataError, match=re.escape(str(pair[0]))) as refusal:
        read_asf(pair[0])
    assert words in str(refusal.value) and "\n" not in str(refusal.value)


def test_a_skeleton_without_the_needed_bones_is_refused(pair):
    ends = bone_ends(*_read(pair))
    del ends["upperneck"]
    with pytest.raises(DataError, match="no bone upperneck"):
        joints_of(ends, "test")


def test_split_actions_and_rates_are_known():
    assert [split_of(s) for s in ("02", "35", "86", "u88", "999", "walker")] == [
        "train", "val", "test", "train", "train", "train",
    ]  # fmt: skip
    assert (
        action_of("02_03") == "run" and action_of("64_01_truncated") == "sport" and action_of("77_01") == "unlabelled"
    )
    assert native_fps("87") == native_fps("u87") == 60 and native_fps("02") == native_fps("umk") == 120


def test_joint_flips_are_cut_out_aloud(caplog):
    joints = np.zeros((100, 17, 3)) + np.linspace(0, 1, 100)[:, None, None]
    assert len(clean_run(joints, 120.0, "x")) == 100 and not caplog.records
    joints[30:, 5] += 0.5
    run = clean_run(joints, 120.0, "x")
    assert 66 <= len(run) <= 70 and "clean run" in caplog.text and np.ptp(run[:, 5, 0] - run[:, 4, 0]) < 1e-12


def test_a_tree_of_originals_is_prepared(pair, tmp_path):
    deep = tmp_path / "cmu" / "subjects" / "35"
    deep.mkdir(parents=True)
    (deep / "35.asf").write_text(asf_text())
    (deep / "35_01.amc").write_text(amc_text(channels(25, seed=1)))
    index = catalog.prepare("cmu_mocap", tmp_path / "out", pair[0].parent, {"cameras": 2})
    data = verify(tmp_path / "out")
    assert [(s.name, s.split, s.action, s.length) for s in index.sequences] == [
        ("07_03.cam0", "test", "walk", 20), ("07_03.cam1", "test", "walk", 20),
        ("35_01.cam0", "val", "walk", 13), ("35_01.cam1", "val", "walk", 13),
    ]  # fmt: skip
    assert index.fps == 60 and index.joints == JOINTS and "NSF EIA-0196217" in index.acknowledgement
    ends = bone_ends(*_read(pair))
    world = joints_of(ends, "test")[::2]
    bones = np.linalg.norm(world[:, 1:] - world[:, PARENTS[1:]], axis=-1)
    seen = data.poses[:20]
    assert np.abs(np.linalg.norm(seen[:, 1:] - seen[:, PARENTS[1:]], axis=-1) - bones).max() < 5e-6


def test_a_damaged_original_leaves_nothing(pair, tmp_path):
    pair[1].write_text(AMC_DAMAGE["NaN"][0](amc_text(channels(10))))
    with pytest.raises(DataError, match=r"07_03\.amc:\d+"):
        catalog.prepare("cmu_mocap", tmp_path / "out", pair[0].parent)
    pair[0].unlink()
    with pytest.raises(DataError, match="skeleton is missing: expected"):
        catalog.prepare("cmu_mocap", tmp_path / "out", pair[1].parent)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["cmu"]


def test_the_same_trial_twice_is_refused(pair, tmp_path):
    copy = pair[0].parent / "copy"
    copy.mkdir()
    for path in pair:
        (copy / path.name).write_bytes(path.read_bytes())
    with pytest.raises(DataError, match="07_03 is there more than once"):
        catalog.prepare("cmu_mocap", tmp_path / "out", pair[0].parent)


def test_where_the_source_is_looked_for(pair, tmp_path, monkeypatch):
    monkeypatch.delenv("POSESCALE_DATA", raising=False)
    with pytest.raises(UnavailableError, match="POSESCALE_DATA.*mocap.cs.cmu.edu"):
        catalog.prepare("cmu_mocap", tmp_path / "out")
    with pytest.raises(UnavailableError, match="not a folder"):
        catalog.prepare("cmu_mocap", tmp_path / "out", tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UnavailableError, match="neither"):
        catalog.prepare("cmu_mocap", tmp_path / "out", tmp_path / "empty")
    monkeypatch.setenv("POSESCALE_DATA", str(pair[0].parent))
    assert catalog.missing("cmu_mocap") == ""
    pair[0].parent.rename(tmp_path / "cmu_mocap")
    monkeypatch.setenv("POSESCALE_DATA", str(tmp_path))
    assert len(catalog.prepare("cmu_mocap", tmp_path / "out", settings={"cameras": 1}).sequences) == 1


@pytest.fixture
def extract(pair, tmp_path):
    """A folder in the form of the prepared extract: two trials."""
    world = joints_of(bone_ends(*_read(pair)), "test")[::2].astype(np.float32)
    folder = tmp_path / "extract"
    folder.mkdir()
    trials = [
        {"id": "02_01", "subject": "02", "action": "walk", "split": "train", "frames": 20, "fps": 60},
        {"id": "07_03", "subject": "07", "action": "walk", "split": "test", "frames": 20, "fps": 60},
    ]
    index = {"format": "cmu17 v1", "unit": "metre", "fps": 60, "joints": JOINTS, "parents": PARENTS, "trials": trials}
    (folder / "index.json").write_text(json.dumps(index))
    np.savez_compressed(folder / "cmu17_60fps.npz", **{t["id"]: world for t in trials})
    return folder, index, world


def test_the_extract_is_prepared(extract, tmp_path):
    folder, _, world = extract
    catalog.prepare("cmu_mocap", tmp_path / "out", folder, {"cameras": 3})
    data = PreparedData(tmp_path / "out")
    assert [(s.name, s.split) for s in data.index.sequences][::3] == [("02_01.cam0", "train"), ("07_03.cam0", "test")]
    assert [s.performance for s in data.index.sequences] == ["02_01"] * 3 + ["07_03"] * 3
    relative = data.poses[:20] - data.poses[:20, :1]
    expected = world - world[:, :1]
    assert np.abs(np.linalg.norm(relative, axis=-1) - np.linalg.norm(expected, axis=-1)).max() < 5e-6


ARRAY_DAMAGE = {
    "wrong frames": ({"02_01": lambda w: w[:-1]}, r"02_01.*\(20, 17, 3\).*\(19, 17, 3\)"),
    "wrong joints": ({"02_01": lambda w: w[:, :16]}, r"02_01.*16"),
    "integers": ({"02_01": lambda w: w.astype(int)}, "02_01.*expected floats"),
    "NaN": ({"07_03": lambda w: np.where(np.arange(20)[:, None, None] == 7, np.nan, w)}, "07_03.*frame 7"),
    "millimetres": ({"07_03": lambda w: w * 1000}, "07_03.*metres"),
    "pickled": ({"07_03": lambda w: np.array([{}], dtype=object)}, "07_03"),
    "missing": ({"07_03": None}, "missing 07_03"),
    "extra": ({"99_01": lambda w: w}, "extra 99_01"),
}


@pytest.mark.parametrize("kind", ARRAY_DAMAGE)
def test_damaged_extracts_are_refused(extract, tmp_path, kind):
    folder, _, world = extract
    changes, words = ARRAY_DAMAGE[kind]
    arrays = {"02_01": world, "07_03": world}
    arrays |= {name: change(world) for name, change in changes.items() if change}
    np.savez(folder / "cmu17_60fps.npz", **{n: a for n, a in arrays.items() if changes.get(n, True)})
    with pytest.raises(DataError, match=words):
        catalog.prepare("cmu_mocap", tmp_path / "out", folder)
    assert not (tmp_path / "out").exists()


def test_torn_extract_files_are_refused(extract, tmp_path):
    folder, index, _ = extract
    whole = (folder / "cmu17_60fps.npz").read_bytes()
    flipped = bytearray(whole)
    flipped[200] ^= 0xFF
    for damage in (whole[: len(whole) // 2], b"", b"not a zip", bytes(flipped)):
        (folder / "cmu17_60fps.npz").write_bytes(damage)
        with pytest.raises(DataError, match="cmu17_60fps"):
            catalog.prepare("cmu_mocap", tmp_path / "out", folder)
    (folder / "cmu17_60fps.npz").write_bytes(whole)
    both = index["trials"]
    wrong = [
        {"fps": 120},
        {"joints": JOINTS[::-1]},
        {"trials": both * 2},
        {"trials": [*both, both[0] | {"id": "x", "split": "val"}]},
    ]
    for text in ("", "{", "[]", *(json.dumps(index | change) for change in wrong)):
        (folder / "index.json").write_text(text)
        with pytest.raises(DataError, match=r"index\.json"):
            catalog.prepare("cmu_mocap", tmp_path / "out", folder)
    (folder / "index.json").unlink()
    with pytest.raises(DataError, match=r"index\.json"):
        catalog.prepare("cmu_mocap", tmp_path / "out", folder)
    with pytest.raises(ConfigError, match="subjects"):
        catalog.prepare("cmu_mocap", tmp_path / "out", folder, {"subjects": 3})


def test_joint_order_matches_the_mapping():
    assert len(JOINT_BONES) == len(JOINTS) and [b[0][0] for b in JOINT_BONES[1:7]] == list("rrrlll")


@pytest.mark.shared
def test_every_raw_file_equals_the_reference(cmu_shared, caplog):
    reference = np.load(cmu_shared / "raw" / "fk_reference.npz")
    files = sorted((cmu_shared / "raw").glob("*.amc"))
    assert len(files) == 9
    for amc in files:
        asf = amc.with_suffix(".asf")
        skeleton = read_asf(asf if asf.exists() else amc.with_name(amc.stem.split("_")[0] + ".asf"))
        motion = read_amc(amc, skeleton)
        ends = bone_ends(skeleton, motion)
        ours = np.stack([ends[str(bone)] for bone in reference["bones"]], axis=1)[::10]
        assert ours.shape == reference[amc.stem].shape and np.abs(ours - reference[amc.stem]).max() < 1e-5
        if amc.stem == "64_01_truncated":
            assert motion.frames == 443 and "443 frames remain" in caplog.text


@pytest.mark.shared
def test_originals_and_extract_agree(cmu_shared, tmp_path):
    extract = np.load(cmu_shared / "cmu17_60fps.npz")
    index = catalog.prepare("cmu_mocap", tmp_path / "raw", cmu_shared / "raw", {"cameras": 1})
    data = PreparedData(tmp_path / "raw")
    assert len(index.sequences) == 9
    trials = {t["id"]: t for t in json.loads((cmu_shared / "index.json").read_text())["trials"]}
    for s in index.sequences:
        name = s.name.split(".")[0].removesuffix("_truncated")
        assert (s.split, s.action, s.length) == tuple(trials[name][k] for k in ("split", "action", "frames"))
        theirs, ours = extract[name], data.poses[s.start : s.start + s.length]
        distances = [np.linalg.norm(p[:, :, None] - p[:, None], axis=-1) for p in (theirs, ours)]
        assert np.abs(distances[0] - distances[1]).max() < 3e-4  # the extract is rounded to 0.1 mm


@pytest.mark.shared
def test_the_whole_extract_is_read(cmu_shared, tmp_path):
    index = catalog.prepare("cmu_mocap", tmp_path / "out", cmu_shared)
    frames = {split: sum(s.length for s in index.sequences if s.split == split) for split in ("train", "val", "test")}
    assert frames == {"train": 4 * 49722, "val": 4 * 7929, "test": 4 * 12193} and len(index.sequences) == 4 * 73
    data = verify(tmp_path / "out")
    for s in index.sequences:
        pixels = data.exact[s.start : s.start + s.length]
        assert (pixels > 0).all() and (pixels < 1000).all()
