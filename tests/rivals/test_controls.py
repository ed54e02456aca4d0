"""Controls give what they say, and need no torch."""

import subprocess
import sys

import numpy as np
import pytest

from posescale.cards import components, list_models
from posescale.errors import ConfigError, DataError, ShapeError
from posescale.models import create_model

CONTROLS = ["copy_previous", "ground_truth", "interpolate_visible", "mean_pose", "null"]


@pytest.fixture
def clips():
    rng = np.random.default_rng(0)
    return rng.normal(size=(2, 5, 17, 3)).astype(np.float32), rng.normal(size=(2, 5, 17, 3)).astype(np.float32)


def test_controls_are_listed_only_when_asked_for():
    assert list_models("control") == CONTROLS
    assert not set(CONTROLS) & set(list_models())


def test_ground_truth_is_exact(clips):
    inputs, targets = clips
    control = create_model("ground_truth").fit([targets])
    prediction = control.predict(inputs, targets, targets[:, 0])
    assert np.array_equal(prediction, targets) and not np.shares_memory(prediction, targets)


def test_mean_pose_weighs_every_frame_the_same(clips):
    inputs, targets = clips
    batches = [np.full((1, 4, 17, 3), 1, np.float32), np.full((2, 3, 17, 3), 6, np.float32)]
    control = create_model("mean_pose").fit(batches)
    np.testing.assert_allclose(control.mean, np.full((17, 3), 4.0))
    prediction = control.predict(inputs, targets, targets[:, 0])
    assert prediction.shape == targets.shape and prediction.dtype == targets.dtype and (prediction == 4).all()


def test_mean_pose_does_not_lose_digits_over_many_frames():
    control = create_model("mean_pose").fit(np.full((50, 100, 1, 3), 0.1, np.float32) for _ in range(20))
    np.testing.assert_allclose(control.mean, np.float64(np.float32(0.1)), rtol=1e-12)


def test_mean_pose_needs_training_poses(clips):
    inputs, targets = clips
    with pytest.raises(ConfigError, match="fit"):
        create_model("mean_pose").predict(inputs, targets, targets[:, 0])
    with pytest.raises(DataError, match="no frame"):
        create_model("mean_pose").fit([])
    with pytest.raises(DataError, match="no frame"):
        create_model("mean_pose").fit([targets[:, :0]])


def test_copy_previous_is_one_frame_late(clips):
    inputs, targets = clips
    before = np.random.default_rng(1).normal(size=(2, 17, 3)).astype(np.float32)
    prediction = create_model("copy_previous").fit([]).predict(inputs, targets, before)
    assert np.array_equal(prediction[:, 0], before) and np.array_equal(prediction[:, 1:], targets[:, :-1])
    with pytest.raises(ShapeError, match="before"):
        create_model("copy_previous").predict(inputs, targets, before[:1])


def test_null_is_the_identity_and_cannot_be_scored(clips):
    inputs, targets = clips
    control = create_model("null")
    assert control(inputs) is inputs
    with pytest.raises(ConfigError, match="timings"):
        control.predict(inputs, targets, targets[:, 0])


def test_unknown_control_is_refused():
    with pytest.raises(ConfigError, match="median_pose"):
        create_model("null", kind="median_pose")


def test_controls_need_no_torch():
    network = components()["null"].folder / "network.py"
    code = f"import sys, runpy; runpy.run_path({str(network)!r}); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_interpolation_draws_lines_between_the_frames_that_show_a_joint():
    truth = np.arange(6.0)[:, None] * [[2.0, -1.0]]  # an even motion
    truth[4] += 10  # frame 4 is a leap
    seen = np.array([1, 0, 0, 1, 0, 1.0])
    inputs = np.concatenate([truth, seen[:, None]], axis=1)[None, :, None]
    targets = truth[None, :, None]
    found = create_model("interpolate_visible").predict(inputs, targets, targets[:, 0])[0, :, 0]
    np.testing.assert_allclose(found[[0, 1, 2, 3, 5]], truth[[0, 1, 2, 3, 5]])
    np.testing.assert_allclose(found[4], [8, -4])


def test_interpolation_reaches_so_far_and_no_further():
    truth = np.arange(8.0)[:, None, None] * np.ones((1, 1, 2))
    inputs = np.concatenate([truth, np.array([1, 0, 0, 0, 0, 0, 0, 0.0])[:, None, None]], axis=-1)[None]
    found = create_model("interpolate_visible", reach=3).predict(inputs, truth[None], truth[:1])[0, :, 0, 0]
    np.testing.assert_array_equal(found, [0, 0, 0, 0, np.nan, np.nan, np.nan, np.nan])
    inputs[..., 2] = 0
    assert np.isnan(create_model("interpolate_visible", reach=None).predict(inputs, truth[None], truth[:1])).all()
