"""PCK of JHMDB on closed forms."""

import numpy as np
import pytest

from posescale.metrics import PoseInputError, jhmdb_pck, mean_of_splits
from posescale.metrics.jhmdb import GROUPS_JHMDB, JOINTS_JHMDB, tight_box


@pytest.fixture
def target():
    return np.random.default_rng(0).uniform(20, 200, (7, 15, 2))


BOXES = np.tile([10.0, 20.0, 60.0, 100.0], (7, 1))  # size 100


def test_identity(target):
    for normaliser in ("person", "torso"):
        for table in jhmdb_pck(target, target, BOXES, normaliser).values():
            assert set(table.values()) == {1.0}


def test_the_threshold_is_included(target):
    at, beyond = (jhmdb_pck(target.round() + [d, 0], target.round(), BOXES)[0.2]["mean"] for d in (20.0, 20.01))
    assert at == 1.0 and beyond == 0.0


def test_thresholds_nest(target):
    pred = target + np.random.default_rng(1).normal(0, 8, target.shape)
    tables = jhmdb_pck(pred, target, BOXES)
    assert list(tables) == [0.2, 0.1, 0.05]
    for name in tables[0.2]:
        assert tables[0.2][name] >= tables[0.1][name] >= tables[0.05][name]


def test_groups_and_means(target):
    pred = target.copy()
    pred[:, [JOINTS_JHMDB.index("left_wrist"), JOINTS_JHMDB.index("belly")]] += 500
    table = jhmdb_pck(pred, target, BOXES)[0.2]
    assert table["Wri"] == 0.5 and table["Elb"] == 1.0 == table["Head"]
    assert table["mean"] == pytest.approx(6.5 / 7) and table["mean_15"] == pytest.approx(13 / 15)
    assert {JOINTS_JHMDB[j].split("_")[-1] for j in GROUPS_JHMDB["Wri"]} == {"wrist"}


def test_the_torso_is_the_measure(target):
    target = np.zeros((2, 15, 2))
    target[:, JOINTS_JHMDB.index("left_shoulder")] = 30, 40  # right hip at 0, 0: torso 50
    pred = target.copy()
    pred[:, 0] += [10, 0]
    pred[1, 1] += [10.01, 0]
    table = jhmdb_pck(pred, target, normaliser="torso", thresholds=[0.2])[0.2]
    assert table["mean_15"] == pytest.approx(29 / 30) and table["mean"] == 1.0


def test_a_torso_below_one_pixel_is_taken_from_the_prediction():
    target = np.zeros((1, 15, 2))
    target[0, JOINTS_JHMDB.index("left_shoulder")] = 0.9, 0
    pred = target.copy()
    pred[0, JOINTS_JHMDB.index("left_shoulder")] = 50, 0  # predicted torso: 50 pixels
    pred[0, 0] = 10, 0
    table = jhmdb_pck(pred, target, normaliser="torso", thresholds=[0.2])[0.2]
    assert table["mean_15"] == pytest.approx(14 / 15)  # only the shoulder itself misses
    target[0, JOINTS_JHMDB.index("left_shoulder")] = 1.0, 0
    assert jhmdb_pck(pred, target, normaliser="torso", thresholds=[0.2])[0.2]["mean_15"] == pytest.approx(13 / 15)


def test_scale_does_not_matter(target):
    pred = target + np.random.default_rng(2).normal(0, 15, target.shape)
    one = jhmdb_pck(pred, target, BOXES)
    assert jhmdb_pck(3 * pred, 3 * target, 3 * BOXES) == one
    assert jhmdb_pck(3 * pred, 3 * target, BOXES) != one


def test_tight_box():
    mask = np.zeros((240, 320), bool)
    mask[10:31, 40:61] = True
    mask[100, 50] = True
    assert tight_box(mask) == (40, 10, 20, 90)
    with pytest.raises(PoseInputError, match="person in it"):
        tight_box(np.zeros((240, 320)))


def test_mean_of_splits(target):
    perfect = jhmdb_pck(target, target, BOXES)
    nothing = jhmdb_pck(target + 999, target, BOXES)
    assert mean_of_splits([perfect, nothing, nothing])[0.1]["Knee"] == pytest.approx(1 / 3)
    with pytest.raises(PoseInputError, match="same thresholds"):
        mean_of_splits([perfect, jhmdb_pck(target, target, BOXES, thresholds=[0.3])])


def test_refused(target):
    for pred, boxes, word in [
        (target[:, :14], BOXES, "15"), (target[:3], BOXES, "frames"), (target, None, "boxes"),
        (target, BOXES[:3], "boxes"), (target, BOXES * [1, 1, 0, 0], "no extent"),
        (np.full_like(target, np.nan), BOXES, "neck"),
    ]:  # fmt: skip
        with pytest.raises(PoseInputError, match=word):
            jhmdb_pck(pred, target, boxes)
    with pytest.raises(PoseInputError, match="head"):
        jhmdb_pck(target, target, BOXES, "head")


def test_no_frame():
    table = jhmdb_pck(np.zeros((0, 15, 2)), np.zeros((0, 15, 2)), np.zeros((0, 4)))[0.2]
    assert np.isnan(table["mean"]) and np.isnan(table["Head"])
