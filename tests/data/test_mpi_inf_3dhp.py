"""MPI-INF-3DHP from the original .mat and from npz: the same arrays, and every malformed file refused in words."""
# ruff: noqa: E501 (one malformed file a line)

import copy
import pickle
from pathlib import Path

import numpy as np
import pytest
import scipy.io
import threedhp_files as files

from posescale.commands.data import summary
from posescale.data import catalog
from posescale.data.mpi_inf_3dhp import recording
from posescale.data.originals import verify_originals
from posescale.data.prepared import PreparedData
from posescale.data.skeleton import MPI_INF_3DHP
from posescale.data.verify import verify
from posescale.errors import ConfigError, DataError, UnavailableError

ID = "mpi_inf_3dhp"


@pytest.fixture(scope="module")
def whole(small):
    return files.content(small)


@pytest.fixture
def parts(whole):
    return copy.deepcopy(whole)


def prepared(tmp_path, source, name="out", **settings):
    catalog.prepare(ID, tmp_path / name, source, settings)
    return verify(tmp_path / name)


def same(a: PreparedData, b: PreparedData) -> bool:
    return a.index.sequences == b.index.sequences and all(
        np.array_equal(getattr(a, name), getattr(b, name)) for name in ("poses", "exact", "valid")
    )


def test_mat_and_npz_give_the_same_arrays(tmp_path, parts):
    files.write_npz(tmp_path / "npz", *parts)
    files.write_mats(tmp_path / "mat", *parts)
    npz, mat = prepared(tmp_path, tmp_path / "npz", "a"), prepared(tmp_path, tmp_path / "mat", "b")
    assert same(npz, mat)
    assert mat.index.arrays == ["poses", "exact", "valid", "activity"] and npz.activity is None
    test = mat.sequences("test")
    assert [s.name for s in test] == ["TS1.0", "TS5.0"] and mat.index.protocol == "3dhp_univ"
    assert [(s.width, s.height) for s in test] == [(2048, 2048), (1920, 1080)]
    assert mat.activity[test[0].rows].tolist() == files.activity(test[0].length).astype(int).tolist()
    assert mat.valid[test[1].rows].tolist() == parts[1]["TS5"]["valid"].astype(bool).tolist()
    assert mat.index.parents.index(-1) == 14 and mat.index.joints == MPI_INF_3DHP.joints
    assert [s.name for s in mat.sequences("train")][:9:8] == ["S1 Seq1.0", "S2 Seq2.0"]
    assert [s.performance for s in mat.sequences("train")][:9:8] == ["S1 Seq1", "S2 Seq2"]
    assert [s.performance for s in test] == ["TS1", "TS5"]
    np.testing.assert_allclose(mat.poses[test[0].rows], parts[1]["TS1"]["data_3d"] / 1000, rtol=1e-6)
    np.testing.assert_allclose(mat.exact[test[0].rows], parts[1]["TS1"]["data_2d"], rtol=1e-6)


def test_each_sequence_says_its_own_frame_rate(tmp_path, parts):
    train, test = parts
    train |= {"S3 Seq1": train["S1 Seq1"], "S1 Seq2": train["S1 Seq1"]}
    files.write_npz(tmp_path / "npz", train, test)
    data = prepared(tmp_path, tmp_path / "npz")
    rates = {s.performance: s.fps for s in data.index.sequences}
    assert rates == {"S1 Seq1": 25, "S1 Seq2": 50, "S2 Seq2": 25, "S3 Seq1": 50, "TS1": 0, "TS5": 0}
    assert data.index.fps == 0 and [row["fps"] for row in summary(data)] == ["25, 50", None, None]


def test_frame_rates_change_no_array(tmp_path, parts, monkeypatch):
    files.write_npz(tmp_path / "npz", *parts)
    rated = prepared(tmp_path, tmp_path / "npz", "a")
    monkeypatch.setattr(recording, "FAST", ("S1 Seq1", "S2 Seq2"))
    other = prepared(tmp_path, tmp_path / "npz", "b")
    assert {s.fps for s in other.sequences("train")} == {50} and other.index.digest == rated.index.digest


def test_settings_choose_files_annotation_cameras_and_validation(tmp_path, parts):
    files.write_mats(tmp_path, *parts)
    files.write_npz(tmp_path, *parts)
    usual = prepared(tmp_path, tmp_path)
    assert usual.activity is not None and {s.camera for s in usual.sequences("train")} == set(files.CAMERAS)
    assert prepared(tmp_path, tmp_path, files="npz").activity is None
    metric = prepared(tmp_path, tmp_path, annotation="metric", plausible=False)
    np.testing.assert_allclose(metric.poses, 1.1 * usual.poses, rtol=1e-5)
    chosen = prepared(tmp_path, tmp_path, cameras=[8, 1], validation=["S2"])
    assert [s.name for s in chosen.sequences("val")] == ["S2 Seq2.1", "S2 Seq2.8"]
    assert [s.name for s in chosen.sequences("train")] == ["S1 Seq1.1", "S1 Seq1.8"]
    with pytest.raises(ConfigError, match="universal skeleton only"):
        prepared(tmp_path, tmp_path, files="npz", annotation="metric")
    for wrong in ({"cameras": [14]}, {"cameras": [1, 1]}, {"cameras": []}, {"validation": ["S9"]}, {"subset": 1}):
        with pytest.raises(ConfigError):
            prepared(tmp_path, tmp_path, **wrong)


def test_one_part_is_enough_and_none_is_not(tmp_path, parts, caplog):
    files.write_npz(tmp_path / "a", test=parts[1])
    only = prepared(tmp_path, tmp_path / "a")
    assert not only.sequences("train") and len(only.sequences("test")) == 2
    assert "no training files" in caplog.text
    (tmp_path / "b").mkdir()
    with pytest.raises(UnavailableError, match=r"holds neither S\*/Seq\*/annot\.mat.*data fetch mpi_inf_3dhp"):
        prepared(tmp_path, tmp_path / "b")
    with pytest.raises(DataError, match="no files of kind mat"):
        prepared(tmp_path, tmp_path / "a", files="mat")


def test_the_places_of_the_fields_code_are_searched(tmp_path, parts):
    files.write_npz(tmp_path / "a" / "motion3d", *parts)
    assert len(prepared(tmp_path, tmp_path / "a").index.sequences) == 18
    files.write_test_mat(tmp_path / "b" / "mpi_inf_3dhp_test_set", "TS5", files.test_variables(parts[1]["TS5"]))
    assert [s.name for s in prepared(tmp_path, tmp_path / "b").index.sequences] == ["TS5.0"]


def test_longer_annotations_are_cut_to_the_frames_that_papers_use(tmp_path, parts, monkeypatch):
    files.write_mats(tmp_path, *parts)
    monkeypatch.setitem(recording.FRAMES, "S1 Seq1", 50)
    data = prepared(tmp_path, tmp_path)
    assert {s.length for s in data.sequences("train") if s.subject == "S1"} == {50}
    assert {s.length for s in data.sequences("train") if s.subject == "S2"} == {60}
    assert sum(recording.FRAMES.values()) == 131_592 - 6416 + 50


def test_frames_that_are_not_valid_may_be_anything_finite(tmp_path, parts):
    parts[1]["TS1"]["data_3d"][0] = 0
    parts[1]["TS1"]["data_3d"][4] *= -1
    files.write_npz(tmp_path, *parts)
    assert prepared(tmp_path, tmp_path).poses is not None


def test_original_files_are_verified_without_preparing(tmp_path, parts):
    files.write_mats(tmp_path, *parts)
    assert verify_originals(ID, tmp_path)["sequences"] == 18


@pytest.mark.shared
def test_the_shared_fixture_is_the_same_from_both(tmp_path, shared):
    source = shared / "data" / "samples" / "mpi_inf_3dhp" / "fixture"
    mat, npz = prepared(tmp_path, source, "a"), prepared(tmp_path, source, "b", files="npz")
    assert same(mat, npz) and len(mat.sequences("train")) == 16 and len(mat.sequences("test")) == 2


# Malformed files: how to spoil the content, and what the refusal must say.


def swap(array, a, b):
    array[:, [a, b]] = array[:, [b, a]]


def without(entry, key):
    del entry[key]


def put(entry, key, value):
    entry[key] = value


def change(entry, key, how):
    entry[key] = how(entry[key])


TRAIN_NPZ = {
    "key": (lambda d: change(d, "S1 Seq1", lambda e: [{"0": {"x": 1}}, 25]), "camera 0: expected data_2d and data_3d, found x"),
    "name": (lambda d: put(d, "S9 Seq1", d["S1 Seq1"]), "no sequence of MPI-INF-3DHP is called 'S9 Seq1'"),
    "structure": (lambda d: put(d, "S1 Seq1", d["S1 Seq1"][0]), "S1 Seq1: expected a list of cameras and frame rate"),
    "camera lacking": (lambda d: without(d["S1 Seq1"][0], "4"), "has no camera 4, found 0, 1, 2, 5"),
    "camera unknown": (lambda d: put(d["S1 Seq1"][0], "14", d["S1 Seq1"][0]["0"]), "no camera is called '14'"),
    "joints": (lambda d: change(d["S1 Seq1"][0]["0"], "data_3d", lambda a: a[:, :16]), r"data_3d: expected numbers of shape \(F, 17, 3\), found float64 \(60, 16, 3\)"),
    "axes": (lambda d: change(d["S1 Seq1"][0]["0"], "data_2d", lambda a: a[..., :1]), r"data_2d: expected .* found float64 \(60, 17, 1\)"),
    "frames": (lambda d: change(d["S1 Seq1"][0]["0"], "data_2d", lambda a: a[:50]), "data_2d has 50 frames and data_3d 60"),
    "empty": (lambda d: put(d["S1 Seq1"][0], "0", {"data_2d": np.zeros((0, 17, 2)), "data_3d": np.zeros((0, 17, 3))}), "holds no frame"),
    "text": (lambda d: put(d["S1 Seq1"][0]["0"], "data_3d", np.full((60, 17, 3), "x")), "expected numbers"),
    "NaN": (lambda d: put(d["S1 Seq1"][0]["2"]["data_3d"], (7, 3, 1), np.nan), "camera 2, data_3d: NaN or infinity, first in frame 7"),
    "infinity": (lambda d: put(d["S1 Seq1"][0]["2"]["data_2d"], (3, 0, 0), np.inf), "data_2d: NaN or infinity, first in frame 3"),
    "metres": (lambda d: change(d["S1 Seq1"][0]["0"], "data_3d", lambda a: a / 1000), "look like metres"),
    "normalised 2D": (lambda d: change(d["S1 Seq1"][0]["0"], "data_2d", lambda a: a / 1024 - 1), "expected pixels"),
    "joint order": (lambda d: swap(d["S1 Seq1"][0]["0"]["data_3d"], 9, 3), "order"),
    "2D joint order": (lambda d: swap(d["S1 Seq1"][0]["0"]["data_2d"], 10, 0), "head_top at right_ankle|right_ankle at head_top"),
    "depth": (lambda d: change(d["S1 Seq1"][0]["0"], "data_3d", lambda a: a - [0, 0, 9000]), "behind the camera"),
    "mirrored": (lambda d: change(d["S1 Seq1"][0]["0"], "data_3d", lambda a: a * [-1, 1, 1]), "S1 Seq1, camera 0"),
    "nothing": (lambda d: d.clear(), "must be a dictionary of sequences, found an empty one"),
}  # fmt: skip
TEST_NPZ = {
    "key": (lambda d: without(d["TS1"], "data_3d"), "TS1: expected data_2d and data_3d, found data_2d, valid"),
    "valid lacking": (lambda d: without(d["TS1"], "valid"), "TS1: lacks valid"),
    "valid length": (lambda d: change(d["TS1"], "valid", lambda v: v[:-1]), "59 valid flags for 60 frames"),
    "valid values": (lambda d: put(d["TS1"]["valid"], 5, 2), "must be 0 or 1, found 2"),
    "none valid": (lambda d: change(d["TS1"], "valid", lambda v: 0 * v), "no frame is valid"),
    "name": (lambda d: put(d, "TS7", d["TS1"]), "is called 'TS7'"),
    "metres": (lambda d: change(d["TS5"], "data_3d", lambda a: a / 1000), "TS5.*look like metres"),
    "joint order": (lambda d: swap(d["TS5"]["data_3d"], 14, 0), "TS5"),
    "joints of Human3.6M": (lambda d: change(d["TS1"], "data_3d", lambda a: a[:, np.argsort(files.ORDER)]), "TS1"),
    "NaN": (lambda d: put(d["TS1"]["data_2d"], (0, 0, 0), np.nan), "first in frame 0"),
    "axes": (lambda d: change(d["TS1"], "data_3d", lambda a: a[:, None]), r"found float64 \(60, 1, 17, 3\)"),
    "other video": (lambda d: change(d["TS1"], "data_2d", lambda a: a[::-1] + np.linspace(0, 1500, 60)[:, None, None]), "TS1"),
    "structure": (lambda d: put(d, "TS1", [1, 2]), "expected data_2d and data_3d, found list"),
}  # fmt: skip
TRAIN_MAT = {
    "variable": (lambda v: without(v, "univ_annot3"), "expected the variables annot2, univ_annot3, found .*annot3"),
    "no cells": (lambda v: put(v, "annot2", np.zeros((60, 56))), r"annot2: expected a cell array of 14 cameras, found float64"),
    "cameras": (lambda v: change(v, "annot2", lambda c: c[:8]), "expected a cell array of 14 cameras, found 8 cells"),
    "joints": (lambda v: change(v["univ_annot3"], (0, 0), lambda a: a[:, :51]), r"camera 0, univ_annot3: expected numbers of shape \(F, 84\), found float64 \(60, 51\)"),
    "frames": (lambda v: change(v["annot2"], (1, 0), lambda a: a[:9]), "camera 1: annot2 has 9 frames and univ_annot3 60"),
    "empty": (lambda v: put(v["annot2"], (0, 0), np.zeros((0, 56))), "annot2: holds no frame|expected numbers"),
    "NaN": (lambda v: put(v["univ_annot3"][5, 0], (11, 12), np.nan), "camera 5, univ_annot3: NaN or infinity, first in frame 11"),
    "metres": (lambda v: change(v["univ_annot3"], (0, 0), lambda a: a / 1000), "look like metres"),
    "joint order": (lambda v: change(v["univ_annot3"], (0, 0), lambda a: np.roll(a, 3, axis=1)), "annot.mat, camera 0"),
    "2D of another camera": (lambda v: change(v["annot2"], (0, 0), lambda a: np.abs(2048 - a[::-1])), "annot.mat, camera 0"),
    "normalised 2D": (lambda v: change(v["annot2"], (0, 0), lambda a: a / 2048), "expected pixels"),
    "text": (lambda v: put(v["annot2"], (0, 0), "text"), "expected numbers"),
}  # fmt: skip
TEST_MAT = {
    "variable": (lambda v: without(v, "univ_annot3"), "lacks the variable univ_annot3; found activity_annotation, annot2"),
    "valid lacking": (lambda v: without(v, "valid_frame"), "lacks the variable valid_frame"),
    "axes as in MATLAB": (lambda v: change(v, "univ_annot3", lambda a: a.T), r"found float64 \(3, 17, 1, 60\)"),
    "joints": (lambda v: change(v, "annot2", lambda a: a[:, :, :14]), r"annot2: expected numbers of shape \(F, 1, 17, 2\)"),
    "frames": (lambda v: change(v, "annot2", lambda a: a[:7]), "annot2 has 7 frames and univ_annot3 60"),
    "valid length": (lambda v: change(v, "valid_frame", lambda a: a[:59]), "59 valid flags for 60 frames"),
    "none valid": (lambda v: change(v, "valid_frame", lambda a: 0 * a), "no frame is valid"),
    "activity": (lambda v: put(v["activity_annotation"], 1, 8), "activities are numbered 1 to 7, found 8"),
    "activity length": (lambda v: change(v, "activity_annotation", lambda a: a[:5]), "5 activities for 60 frames"),
    "empty": (lambda v: put(v, "univ_annot3", np.zeros((0, 1, 17, 3))), "holds no frame"),
    "NaN": (lambda v: put(v["univ_annot3"], (1, 0, 2, 2), np.nan), "univ_annot3: NaN or infinity, first in frame 1"),
    "metres": (lambda v: change(v, "univ_annot3", lambda a: a / 1000), "look like metres"),
    "joint order": (lambda v: change(v, "univ_annot3", lambda a: a[:, :, ::-1]), "annot_data.mat"),
}  # fmt: skip


def _refused(tmp_path, words, source, **settings):
    with pytest.raises(DataError, match=words) as refusal:
        prepared(tmp_path, source, **settings)
    assert str(source) in str(refusal.value) and not (tmp_path / "out").exists()
    with pytest.raises(DataError, match=words):
        verify_originals(ID, source)


@pytest.mark.parametrize("case", TRAIN_NPZ)
def test_malformed_training_npz(tmp_path, parts, case):
    spoil, words = TRAIN_NPZ[case]
    spoil(parts[0])
    files.write_npz(tmp_path / "source", *parts)
    _refused(tmp_path, words, tmp_path / "source")


@pytest.mark.parametrize("case", TEST_NPZ)
def test_malformed_test_npz(tmp_path, parts, case):
    spoil, words = TEST_NPZ[case]
    spoil(parts[1])
    files.write_npz(tmp_path / "source", *parts)
    _refused(tmp_path, words, tmp_path / "source")


@pytest.mark.parametrize("case", TRAIN_MAT)
def test_malformed_training_mat(tmp_path, parts, case):
    spoil, words = TRAIN_MAT[case]
    spoil(variables := files.train_variables(parts[0]["S1 Seq1"]))
    files.write_train_mat(tmp_path / "source", "S1 Seq1", variables)
    _refused(tmp_path, words, tmp_path / "source")


@pytest.mark.parametrize("case", TEST_MAT)
def test_malformed_test_mat(tmp_path, parts, case):
    spoil, words = TEST_MAT[case]
    spoil(variables := files.test_variables(parts[1]["TS5"]))
    files.write_test_mat(tmp_path / "source", "TS5", variables)
    _refused(tmp_path, words, tmp_path / "source")


class Trap:
    def __reduce__(self):
        return (Path.touch, (Path("trap-has-run"),))


def test_torn_foreign_and_dangerous_files(tmp_path, parts, monkeypatch):
    monkeypatch.chdir(tmp_path)
    source = tmp_path / "source"
    mat = files.write_train_mat(source, "S1 Seq1", files.train_variables(parts[0]["S1 Seq1"]))
    hdf = files.write_test_mat(source, "TS1", files.test_variables(parts[1]["TS1"]))
    files.write_npz(source, *parts)
    npz = {path: {"files": "npz"} for path in (source / "data_train_3dhp.npz", source / "data_test_3dhp.npz")}
    for path, settings in {mat: {}, hdf: {}, **npz}.items():
        whole = path.read_bytes()
        for torn in (b"", whole[:100], whole[: len(whole) // 2], b"hello " * 999, pickle.dumps({"data": 1})):
            path.write_bytes(torn)
            with pytest.raises(DataError, match=f"{path.name}.*(torn|not an .npz|not a pickle|found)"):
                prepared(tmp_path, source, **settings)
        path.write_bytes(whole)
    np.savez(source / "data_train_3dhp.npz", data=np.array({"S1 Seq1": Trap()}, dtype=object))
    with pytest.raises(DataError, match="Nothing was run"):
        prepared(tmp_path, source, files="npz")
    assert not Path("trap-has-run").exists()
    with pytest.raises(DataError, match="v7.3"):
        mat.write_bytes(hdf.read_bytes())
        prepared(tmp_path, source)


def test_the_check_of_bones_can_be_left_out(tmp_path, parts):
    swap(parts[1]["TS1"]["data_3d"], 9, 3)
    files.write_npz(tmp_path, *parts)
    assert prepared(tmp_path, tmp_path, plausible=False).index.sequences


def test_matlab_cells_may_lie_in_a_row(tmp_path, parts):
    variables = {k: v.T if v.dtype == object else v for k, v in files.train_variables(parts[0]["S1 Seq1"]).items()}
    path = files.write_train_mat(tmp_path, "S1 Seq1", variables)
    assert scipy.io.loadmat(path)["annot2"].shape == (1, 14)
    assert len(prepared(tmp_path, tmp_path).index.sequences) == 8
