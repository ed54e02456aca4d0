import json

import numpy as np
import pytest
import scipy.io
import typer
from typer.testing import CliRunner

from posescale.commands.evaluate import evaluate
from posescale.data import catalog
from posescale.data.video.prepared import VideoData
from posescale.data.video.verify import verify
from posescale.errors import ConfigError, DataError

POSITIONS = "joint_positions/walk/A_walk_f_1/joint_positions.mat"
MASK = "puppet_mask/walk/A_walk_f_1/puppet_mask.mat"
IMAGE = "Rename_Images/walk/A_walk_f_1/00002.png"


def test_the_original_files_are_prepared(tmp_path, jhmdb):
    index = catalog.prepare("jhmdb", tmp_path / "d", jhmdb)
    data = verify(tmp_path / "d")
    assert [(v.name, v.split, v.action) for v in index.videos] == [
        ("A_walk_f_1", "train", "walk"), ("B_walk_f_2", "test", "walk"),
    ]  # fmt: skip
    assert index.protocol == "jhmdb_person" and index.reported == "test" and index.skeleton == "jhmdb15"
    positions = scipy.io.loadmat(jhmdb / POSITIONS)["pos_img"]
    assert np.allclose(data.people["joints"][1], positions[:, :, 1].T - 1), "MATLAB counts from 1"
    # Corner to corner: rows 55..105, columns 50..120 of the mask, as LSTM Pose Machines measures a person.
    assert data.people["box"][0].tolist() == [50, 55, 70, 50]
    assert (data.people["annotated"] == 1).all() and np.isnan(data.people["head"]).all()
    assert data.frame(1)[1].file == IMAGE


def test_the_split_is_a_setting(tmp_path, jhmdb):
    index = catalog.prepare("jhmdb", tmp_path / "d", jhmdb, {"split": 2})
    assert {v.name: v.split for v in index.videos} == {"A_walk_f_1": "test", "B_walk_f_2": "train"}
    for wrong in ({"split": 4}, {"split": 0}, {"subset": "half"}):
        with pytest.raises(ConfigError):
            catalog.prepare("jhmdb", tmp_path / "e", jhmdb, wrong)
    with pytest.raises(DataError, match="splits"):
        catalog.prepare("jhmdb", tmp_path / "e", jhmdb, {"subset": "full"})
    (jhmdb / "sub_splits").rename(jhmdb / "splits")
    assert len(catalog.prepare("jhmdb", tmp_path / "e", jhmdb, {"subset": "full"}).videos) == 2


def test_images_beyond_the_annotated_frames_are_neighbours(tmp_path, jhmdb):
    more = jhmdb / IMAGE
    more.with_name("00004.png").write_bytes(more.read_bytes())
    catalog.prepare("jhmdb", tmp_path / "d", jhmdb)
    frames = VideoData(tmp_path / "d").index.videos[0].frames
    assert [(f.number, f.labelled) for f in frames] == [(1, True), (2, True), (3, True), (4, False)]


def _save(path, key, change):
    content = scipy.io.loadmat(path)
    scipy.io.savemat(path, {key: change(content[key])})


def _nan(positions):
    positions[0, 3, 1] = np.nan
    return positions


def _empty(mask):
    mask[:, :, 1] = 0
    return mask


DAMAGE = {
    "torn joints": (lambda s: (s / POSITIONS).write_bytes((s / POSITIONS).read_bytes()[:300]), "torn"),
    "no joints": (lambda s: (s / POSITIONS).unlink(), "joint_positions.mat: missing"),
    "torn mask": (lambda s: (s / MASK).write_bytes(b"MATLAB 5.0"), "torn"),
    "no mask": (lambda s: (s / MASK).unlink(), "puppet_mask.mat: missing"),
    "another array": (lambda s: scipy.io.savemat(s / MASK, {"mask": np.ones(3)}), "has no part_mask; it holds mask"),
    "13 joints": (lambda s: _save(s / POSITIONS, "pos_img", lambda p: p[:, :13]), r"\(2, 13, 3\)"),
    "NaN": (lambda s: _save(s / POSITIONS, "pos_img", _nan), "NaN or infinity, first in frame 2"),
    "fewer masks": (lambda s: _save(s / MASK, "part_mask", lambda m: m[..., :2]), "has 3 frames"),
    "empty mask": (lambda s: _save(s / MASK, "part_mask", _empty), "frame 2: the mask is empty"),
    "mask of another clip": (lambda s: _save(s / MASK, "part_mask", lambda m: np.roll(m, 150, 1)), "another clip"),
    "mask of another size": (lambda s: _save(s / MASK, "part_mask", lambda m: m[:200]), "the puppet mask has"),
    "absent frame": (lambda s: (s / IMAGE).unlink(), "frame 00002.png is missing"),
    "torn image": (lambda s: (s / IMAGE).with_name("00001.png").write_bytes(b"\x89PNG"), "not an image"),
    "no split list": (lambda s: [p.unlink() for p in (s / "sub_splits").iterdir()], "no .*_test_split_1.txt"),
    "odd line": (lambda s: (s / "sub_splits/walk_test_split_1.txt").write_text("A_walk_f_1.avi 3\n"), "line 1"),
    "no extension": (lambda s: (s / "sub_splits/walk_test_split_1.txt").write_text("A_walk_f_1 1\n"), "line 1"),
    "clip twice": (lambda s: (s / "sub_splits/walk_test_split_1.txt").write_text("A.avi 1\nA.avi 2\n"), "twice"),
    "unknown clip": (lambda s: (s / "sub_splits/walk_test_split_1.txt").write_text("C.avi 1\n"), "C.*missing"),
    "empty list": (lambda s: (s / "sub_splits/walk_test_split_1.txt").write_text(""), "nowhere"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_damaged_files_are_refused_in_words(tmp_path, jhmdb, name):
    change, words = DAMAGE[name]
    change(jhmdb)
    with pytest.raises(DataError, match=words):
        catalog.prepare("jhmdb", tmp_path / "d", jhmdb)
    assert not (tmp_path / "d").exists()


def test_mmposes_files_give_the_same(tmp_path, jhmdb):
    original = VideoData(_prepared(tmp_path / "a", jhmdb))
    (jhmdb / "annotations").mkdir()
    for split in ("train", "test"):
        (jhmdb / "annotations" / f"Sub1_{split}.json").write_text(json.dumps(_coco(original, split)))
    for folder in ("joint_positions", "puppet_mask"):
        (jhmdb / folder).rename(jhmdb / f"no_{folder}")
    for clip in (jhmdb / "Rename_Images" / "walk").iterdir():
        clip.rename(jhmdb / "Rename_Images" / clip.name)
    converted = VideoData(_prepared(tmp_path / "b", jhmdb))
    for column in ("frame", "box", "joints", "annotated"):
        assert np.allclose(converted.people[column], original.people[column])
    assert [v.split for v in converted.index.videos] == ["train", "test"]
    with pytest.raises(DataError, match="sub-JHMDB alone"):
        catalog.prepare("jhmdb", tmp_path / "c", jhmdb, {"subset": "full"})


def _prepared(folder, source):
    catalog.prepare("jhmdb", folder, source)
    return folder


def _coco(data, split):
    """A split as mmpose's converter writes it: pixels counted from 1, flags 2."""
    images, annotations = [], []
    for v in data.videos(split):
        for n, frame in enumerate(v.frames):
            id = 10000 * (v.start + 1) + frame.number
            images.append(
                {"id": id, "frame_id": id, "file_name": f"{v.name}/{frame.number:05d}.png", "is_labeled": True}
            )
            row = data.people[data.people["frame"] == v.start + n][0]
            keypoints = np.concatenate([row["joints"] + 1, np.full((15, 1), 2)], 1).ravel().tolist()
            box = [*(row["box"][:2] + 1), *row["box"][2:]]
            annotations.append({"image_id": id, "keypoints": keypoints, "bbox": box, "track_id": 0, "id": id})
    return {"images": images, "annotations": annotations, "categories": [{"keypoints": list(data.skeleton.joints)}]}


def test_a_dataset_by_name_is_scored_under_its_own_protocol(tmp_path, monkeypatch, jhmdb):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    app = typer.Typer()
    app.command()(evaluate)
    for words, protocol in (([], "jhmdb_person"), (["--protocol", "jhmdb_torso"], "jhmdb_torso")):
        done = CliRunner().invoke(app, ["ground_truth", "--dataset", "jhmdb", "--source", str(jhmdb), "--json", *words])
        assert done.exit_code == 0, done.output
        first = json.loads(done.stdout)[0]
        assert (first["protocol"], first["pck"]) == (protocol, 100)
