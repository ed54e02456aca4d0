import json
from dataclasses import replace

import numpy as np
import pytest

from posescale.data.prepared import Clip, PreparedData, write_prepared
from posescale.data.skeleton import JOINTS, LEFT, PARENTS, RIGHT
from posescale.data.verify import verify
from posescale.errors import DataError

FIELDS = {
    "dataset": "test", "protocol": "cmu_cam", "settings": {}, "fps": 50.0,
    "joints": JOINTS, "parents": PARENTS, "left": LEFT, "right": RIGHT,
}  # fmt: skip


def _clip(name="a", frames=5, subject="S1", split="train", **arrays):
    rng = np.random.default_rng(0)
    values = {
        "poses": rng.uniform(4, 5, (frames, 17, 3)), "exact": rng.uniform(0, 1000, (frames, 17, 2)),
        "detections": rng.uniform(0, 1, (frames, 17, 3)),
    }  # fmt: skip
    values = {key: value.astype(np.float32) for key, value in values.items()} | arrays
    return Clip(name, subject, "walk", "cam0", split, 1000, 1000, **values)


def _files(folder):
    return sorted(p.name for p in folder.iterdir())


def test_round_trip(tmp_path):
    index = write_prepared(tmp_path / "d", iter([_clip("a", 5), _clip("b", 3)]), **FIELDS)
    data = verify(tmp_path / "d")
    assert data.index == index and [s.start for s in index.sequences] == [0, 5]
    assert (data.poses[5:8] == _clip("b", 3).poses).all()
    assert isinstance(data.poses, np.memmap) and not data.poses.flags.writeable
    assert _files(tmp_path) == ["d"]


def test_data_prepared_before_performances_were_noted_are_still_read(tmp_path):
    write_prepared(tmp_path / "d", iter([replace(_clip("a"), performance="p")]), **FIELDS)
    assert PreparedData(tmp_path / "d").index.sequences[0].performance == "p"
    path = tmp_path / "d" / "index.json"
    content = json.loads(path.read_text())
    del content["sequences"][0]["performance"]
    path.write_text(json.dumps(content))
    assert PreparedData(tmp_path / "d").index.sequences[0].performance == ""


def test_a_reader_that_fails_half_way_leaves_nothing(tmp_path):
    def clips():
        yield _clip()
        raise DataError("the source is torn")

    with pytest.raises(DataError, match="torn"):
        write_prepared(tmp_path / "d", clips(), **FIELDS)
    assert _files(tmp_path) == []


def test_an_existing_folder_survives_a_failure_and_is_replaced_by_success(tmp_path):
    write_prepared(tmp_path / "d", [_clip()], **FIELDS)
    before = {p.name: p.read_bytes() for p in (tmp_path / "d").iterdir()}
    with pytest.raises(ZeroDivisionError):
        write_prepared(tmp_path / "d", (1 / 0 for _ in range(2)), **FIELDS)
    assert {p.name: p.read_bytes() for p in (tmp_path / "d").iterdir()} == before and _files(tmp_path) == ["d"]
    write_prepared(tmp_path / "d", [_clip(frames=9)], **FIELDS)
    assert len(PreparedData(tmp_path / "d").poses) == 9 and _files(tmp_path) == ["d"]


def test_nothing_but_prepared_data_is_replaced(tmp_path):
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "thesis.tex").write_text("years of work")
    with pytest.raises(DataError, match=r"holds thesis\.tex"):
        write_prepared(tmp_path / "home", [_clip()], **FIELDS)
    (tmp_path / "home" / "index.json").write_text("{}")
    with pytest.raises(DataError, match=r"holds thesis\.tex"):
        write_prepared(tmp_path / "home", [_clip()], **FIELDS)
    assert (tmp_path / "home" / "thesis.tex").read_text() == "years of work"
    with pytest.raises(DataError, match="is a file"):
        write_prepared(tmp_path / "home" / "thesis.tex", [_clip()], **FIELDS)


def test_a_place_that_cannot_be_written_is_refused_in_words(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="could not be written"):
        write_prepared(tmp_path / "file" / "d", [_clip()], **FIELDS)


@pytest.mark.parametrize(
    ("clip", "words"),
    [
        (_clip(exact=np.zeros((5, 16, 2), np.float32)), r"exact has shape \(5, 16, 2\)"),
        (_clip(detections=np.zeros((4, 17, 3), np.float32)), "detections has shape"),
        (_clip(frames=0), "at least one frame"),
        (_clip(poses=np.full((5, 17, 3), np.nan, np.float32)), "NaN"),
    ],
)
def test_wrong_clips_are_refused(tmp_path, clip, words):
    with pytest.raises(DataError, match=words):
        write_prepared(tmp_path / "d", [clip], **FIELDS)
    with pytest.raises(DataError, match="no sequence"):
        write_prepared(tmp_path / "d", [], **FIELDS)
    assert _files(tmp_path) == []


@pytest.mark.parametrize("name", ["poses.npy", "exact.npy", "detections.npy", "index.json"])
def test_missing_and_torn_files_are_named(tmp_path, name):
    write_prepared(tmp_path / "d", [_clip(frames=50)], **FIELDS)
    path = tmp_path / "d" / name
    whole = path.read_bytes()
    for damage in (whole[: len(whole) // 2], b""):
        path.write_bytes(damage)
        with pytest.raises(DataError, match=name):
            PreparedData(tmp_path / "d")
    path.unlink()
    with pytest.raises(DataError, match=name):
        PreparedData(tmp_path / "d")


def test_damaged_prepared_data_can_be_prepared_again(tmp_path):
    write_prepared(tmp_path / "d", [_clip()], **FIELDS)
    (tmp_path / "d" / "index.json").write_text("{")
    write_prepared(tmp_path / "d", [_clip()], **FIELDS)
    verify(tmp_path / "d")


def test_verify_finds_what_opening_does_not(tmp_path):
    def fresh():
        write_prepared(tmp_path / "d", [_clip("a"), _clip("b", subject="S2", split="test")], **FIELDS)
        return tmp_path / "d"

    folder = fresh()
    array = np.load(folder / "poses.npy")
    array[3, 2, 1] += 0.001
    np.save(folder / "poses.npy", array)
    with pytest.raises(DataError, match="digest"):
        verify(folder)
    for change, words in (
        (lambda s: s[1].update(subject="S1"), "two splits"),
        (lambda s: s[1].update(name="a"), "twice"),
        (lambda s: (s[0].update(length=4), s[1].update(length=6)), "expected 4"),
    ):
        index = json.loads((fresh() / "index.json").read_text())
        change(index["sequences"])
        (folder / "index.json").write_text(json.dumps(index))
        with pytest.raises(DataError, match=words):
            verify(folder)
    write_prepared(folder, [_clip(detections=np.full((5, 17, 3), 2, np.float32))], **FIELDS)
    with pytest.raises(DataError, match="confidence"):
        verify(folder)
    write_prepared(folder, [_clip(poses=np.full((5, 17, 3), -2, np.float32))], **FIELDS)
    with pytest.raises(DataError, match="behind"):
        verify(folder)


def test_a_dataset_declares_the_arrays_it_has(tmp_path):
    extra = {"factor": np.full(5, 3.5, np.float32), "valid": np.arange(5) % 2 == 0}
    clips = [_clip("a", exact=None, **extra), _clip("b", exact=None, **extra)]
    index = write_prepared(tmp_path / "d", clips, space="image", **FIELDS)
    data = verify(tmp_path / "d")
    assert index.arrays == ["poses", "detections", "factor", "valid"] and index.space == "image"
    assert data.exact is None and data.activity is None and data.valid.dtype == bool
    assert (data.factor == 3.5).all() and data.valid[index.sequences[1].rows].tolist() == extra["valid"].tolist()
    assert _files(tmp_path / "d") == ["detections.npy", "factor.npy", "index.json", "poses.npy", "valid.npy"]
    write_prepared(tmp_path / "d", [_clip()], **FIELDS)  # fewer arrays: nothing of the old ones stays
    assert _files(tmp_path / "d") == ["detections.npy", "exact.npy", "index.json", "poses.npy"]
    with pytest.raises(DataError, match="b: has arrays poses, exact, detections; earlier"):
        write_prepared(tmp_path / "d", [_clip("a", exact=None), _clip("b")], **FIELDS)
    with pytest.raises(DataError, match=r"factor has shape \(4,\)"):
        write_prepared(tmp_path / "d", [_clip(factor=np.ones(4, np.float32))], **FIELDS)
