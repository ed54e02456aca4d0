"""PCK, AUC and the tables of MPI-INF-3DHP against the official MATLAB evaluation."""

import json
from pathlib import Path

import numpy as np
import pytest

from posescale.metrics import PoseInputError, auc, pck, threedhp_frames, threedhp_tables

GOLDENS = Path(__file__).resolve().parents[1] / "goldens"

GROUPS = ["head", "neck", "shoulder", "elbow", "wrist", "hip", "knee", "ankle", "total"]


@pytest.fixture(scope="module")
def golden():
    return np.load(GOLDENS / "metrics.npz"), json.loads((GOLDENS / "metrics.json").read_text())["threedhp"]


def official_rows(table, row):
    """MPJPE, PCK and AUC rows of one sequence: three blocks under one another, the last two in percent."""
    joints, found, area = [r for r in table if r[0] == row]
    return np.array(joints[1:19], float), np.array(found[1:10], float) / 100, np.array(area[1:10], float) / 100


@pytest.mark.parametrize(("sequence", "row"), [("TS1", "TestSeq1"), ("TS5", "TestSeq5")])
def test_official_tables(golden, sequence, row):
    arrays, tables = golden
    pred, target, valid = (arrays[f"3dhp/{sequence}/{k}"] for k in ("pred", "gt", "valid"))
    table = threedhp_tables(pred, target, [sequence] * len(pred), valid)[sequence]
    joints, found, area = official_rows(tables["sequence_table"], row)
    np.testing.assert_allclose(list(table.mpjpe.values()), joints, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose([table.pck[g] for g in GROUPS], found, atol=1e-12)
    np.testing.assert_allclose([table.auc[g] for g in GROUPS], area, atol=1e-12)
    assert table.frames == valid.sum()


def test_labels_split_and_all_weighs_by_frames(golden):
    arrays, _ = golden
    parts = {
        k: np.concatenate([arrays[f"3dhp/{s}/{k}"] for s in ("TS1", "TS5")])
        for k in ("pred", "gt", "valid", "activity")
    }
    tables = threedhp_tables(parts["pred"], parts["gt"], parts["activity"], parts["valid"])
    whole = tables.pop("all")
    weights = [t.frames for t in tables.values()]
    assert sum(weights) == whole.frames == parts["valid"].sum() and set(tables) == {str(n) for n in range(1, 8)}
    assert np.average([t.pck["total"] for t in tables.values()], weights=weights) == pytest.approx(whole.pck["total"])
    assert np.average([t.mpjpe["average"] for t in tables.values()], weights=weights) == pytest.approx(
        whole.mpjpe["average"]
    )


def test_totals_of_the_official_tables_weigh_frames(golden):
    """The official All rows are means over frames, by sequence and by activity alike; so are ours."""
    _, tables = golden
    counts = {"sequence_table": [57, 50, 45, 49, 25, 43], "activity_table": [34, 41, 37, 31, 40, 40, 46]}
    for name, frames in counts.items():
        rows = [r for r in tables[name] if r[0] not in (None, "PCK", "AUC", "All")]
        total = [r for r in tables["activity_table"] if r[0] == "All"]
        for block, width in enumerate((18, 9, 9)):
            part = np.array([r[1 : 1 + width] for r in rows[block * len(frames) : (block + 1) * len(frames)]], float)
            official = np.array(total[block][1 : 1 + width], float)
            np.testing.assert_allclose(np.average(part, axis=0, weights=frames), official, rtol=1e-12)


@pytest.mark.parametrize("sequence", ["TS1", "TS5"])
def test_frames_average_to_the_official_totals(golden, sequence):
    arrays, tables = golden
    pred, target, valid = (arrays[f"3dhp/{sequence}/{k}"] for k in ("pred", "gt", "valid"))
    frames = threedhp_frames(pred[valid == 1], target[valid == 1])
    _, found, area = official_rows(tables["sequence_table"], f"TestSeq{sequence[-1]}")
    assert frames["pck"].shape == (valid.sum(),)
    assert frames["pck"].mean() == pytest.approx(100 * found[-1], abs=1e-11)
    assert frames["auc"].mean() == pytest.approx(100 * area[-1], abs=1e-11)
    with pytest.raises(PoseInputError, match="17 joints"):
        threedhp_frames(pred[:, :16], target[:, :16])


def test_frames_compare_strictly():
    target, pred = np.zeros((1, 17, 3)), np.zeros((1, 17, 3))
    pred[0, :, 2] = [150, 149.9, 5, 4.9, 0, *[0] * 9, 0, 500, 500]
    frames = threedhp_frames(pred, target)
    assert frames["pck"].item() == pytest.approx(100 * 13 / 14)
    assert frames["auc"].item() == pytest.approx(100 * (0 + 1 + 29 + 30 + 10 * 30) / 31 / 14)


def test_invalid_frames_may_be_nan_and_poses_need_not_be_relative(golden):
    arrays, _ = golden
    pred, target, valid = (arrays[f"3dhp/TS1/{k}"].astype(float) for k in ("pred", "gt", "valid"))
    expected = threedhp_tables(pred, target, ["a"] * len(pred), valid)["all"]
    pred[valid == 0] = np.nan
    moved = threedhp_tables(pred + [10.0, -20.0, 3000.0], target - 500.0, ["a"] * len(pred), valid)["all"]
    assert moved.pck == expected.pck and moved.mpjpe["average"] == pytest.approx(expected.mpjpe["average"])
    with pytest.raises(PoseInputError, match="NaN"):
        threedhp_tables(pred, target, ["a"] * len(pred))


def test_pck_is_strict_and_a_fraction():
    target = np.zeros((2, 4, 3))
    pred = target.copy()
    pred[..., 0] = [[0, 149.999, 150, 151], [0, 0, 0, 1000]]
    assert pck(pred, target, 150) == 5 / 8
    assert pck(pred, target, 0) == 0.0
    assert pck(pred, target, np.inf) == 1.0


def test_auc_is_the_mean_of_pck():
    pred, target = np.random.default_rng(0).normal(scale=60, size=(2, 30, 14, 3))
    thresholds = np.arange(0, 151, 5)
    assert auc(pred, target, thresholds) == pytest.approx(
        np.mean([pck(pred, target, t) for t in thresholds]), abs=1e-14
    )
    assert auc(target, target, thresholds) == pytest.approx(30 / 31)
    assert auc(pred, target, thresholds[::-1]) == pytest.approx(auc(pred, target, thresholds))


def test_nothing_to_score_is_nan_and_malformed_input_is_refused():
    empty, good = np.zeros((0, 17, 3)), np.zeros((3, 17, 3))
    assert np.isnan(pck(empty, empty, 150))
    for thresholds in ([], [np.nan], np.zeros((2, 2))):
        with pytest.raises(PoseInputError, match="thresholds"):
            auc(good, good, thresholds)
    with pytest.raises(PoseInputError, match="frame"):
        pck(good, good[:2], 150)
    with pytest.raises(PoseInputError, match="17 joints"):
        threedhp_tables(good[:, :16], good[:, :16], ["a"] * 3)
    with pytest.raises(PoseInputError, match="one label"):
        threedhp_tables(good, good, ["a"] * 2)
    with pytest.raises(PoseInputError, match="valid frame"):
        threedhp_tables(good, good, ["a"] * 3, [0, 0, 0])
