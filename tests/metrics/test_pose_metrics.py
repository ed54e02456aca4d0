"""The MPJPE family: the official code's numbers, closed forms, invariances, and honest refusals."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from posescale.errors import DataError
from posescale.metrics import PoseInputError, acceleration_error, mpjpe, mpjve, n_mpjpe, p_mpjpe

GOLDENS = Path(__file__).resolve().parents[1] / "goldens"

CASES = ["random", "cmu_rootrel", "mirror", "rigid_similarity", "coplanar_both", "single_frame"]
ALL = [mpjpe, n_mpjpe, p_mpjpe, mpjve, acceleration_error]


@pytest.fixture(scope="module")
def golden():
    return np.load(GOLDENS / "metrics.npz"), json.loads((GOLDENS / "metrics.json").read_text())["cases"]


@pytest.mark.parametrize("case", CASES)
def test_official_values(golden, case):
    arrays, scalars = golden
    pred, target = arrays[f"{case}/pred"], arrays[f"{case}/gt"]
    np.testing.assert_allclose(mpjpe(pred, target), arrays[f"{case}/mpjpe_per_frame"], rtol=1e-12, atol=1e-10)
    np.testing.assert_allclose(p_mpjpe(pred, target), arrays[f"{case}/p_mpjpe_per_frame"], rtol=1e-10, atol=1e-9)
    for name, function in [("mpjpe", mpjpe), ("p_mpjpe", p_mpjpe), ("n_mpjpe", n_mpjpe), ("mpjve", mpjve)]:
        if name in scalars[case]:
            assert function(pred, target).mean() == pytest.approx(scalars[case][name], rel=1e-10, abs=1e-9), name
    if "acc_error" in scalars[case]:
        errors = acceleration_error(pred, target)
        np.testing.assert_allclose(errors, arrays[f"{case}/acc_error_per_frame"], rtol=1e-11, atol=1e-10)


poses = st.tuples(st.integers(1, 5), st.integers(4, 17), st.integers(0, 2**32 - 1)).map(
    lambda t: np.random.default_rng(t[2]).normal(size=(2, t[0], t[1], 3))
)
vectors = st.lists(st.floats(-100, 100), min_size=3, max_size=3).map(np.array)
scales = st.floats(0.01, 100)
rotations = st.integers(0, 2**32 - 1).map(lambda seed: Rotation.random(rng=np.random.default_rng(seed)).as_matrix())
quick = settings(max_examples=40, deadline=None)


@quick
@given(poses)
def test_zero_on_identity(pair):
    for metric in ALL:
        np.testing.assert_allclose(metric(pair[0], pair[0]), 0, atol=1e-12)


@quick
@given(poses, rotations, scales, vectors)
def test_p_mpjpe_ignores_similarities_of_the_prediction(pair, rotation, scale, shift):
    pred, target = pair
    np.testing.assert_allclose(p_mpjpe(scale * pred @ rotation + shift, target), p_mpjpe(pred, target), rtol=1e-6)
    np.testing.assert_allclose(p_mpjpe(scale * target @ rotation + shift, target), 0, atol=1e-6)


@quick
@given(poses, scales)
def test_n_mpjpe_ignores_scale_only(pair, scale):
    pred, target = pair
    np.testing.assert_allclose(n_mpjpe(scale * pred, target), n_mpjpe(pred, target), rtol=1e-9)
    assert (n_mpjpe(pred + 1.0, target) != n_mpjpe(pred, target)).all()


@quick
@given(poses, vectors)
def test_translation_moves_mpjpe_and_leaves_velocity(pair, shift):
    pred, target = pair
    np.testing.assert_allclose(mpjpe(target + shift, target), np.linalg.norm(shift), rtol=1e-9, atol=1e-12)
    for metric in (mpjve, acceleration_error):
        np.testing.assert_allclose(metric(pred + shift, target), metric(pred, target), rtol=1e-9, atol=1e-9)


@quick
@given(poses)
def test_symmetry_order_and_scale_of_errors(pair):
    pred, target = pair
    np.testing.assert_allclose(mpjpe(pred, target), mpjpe(target, pred))
    permuted = np.random.default_rng(0).permutation(pred.shape[1])
    for metric in ALL:
        np.testing.assert_allclose(metric(pred[:, permuted], target[:, permuted]), metric(pred, target), rtol=1e-8)
        np.testing.assert_allclose(metric(1000 * pred, 1000 * target), 1000 * metric(pred, target), rtol=1e-8)


def test_reflection_is_not_an_allowed_alignment():
    target = np.random.default_rng(1).normal(size=(3, 17, 3))
    assert (p_mpjpe(target * [-1, 1, 1], target) > 0.1).all()


def test_frames_are_independent_and_batches_agree_with_single_frames():
    pred, target = np.random.default_rng(2).normal(size=(2, 50, 17, 3))
    for metric in (mpjpe, n_mpjpe, p_mpjpe):
        single = [metric(p[None], t[None])[0] for p, t in zip(pred, target, strict=True)]
        np.testing.assert_allclose(metric(pred, target), single, rtol=1e-12)


def test_short_sequences_give_empty_errors():
    one = np.ones((1, 17, 3))
    assert mpjve(one, one).shape == (0,) and acceleration_error(one, one).shape == (0,)
    none = np.ones((0, 17, 3))
    assert [metric(none, none).shape for metric in ALL] == [(0,)] * len(ALL)


@pytest.mark.parametrize("place", [0.0, 0.1, -3.7])
def test_undefined_frames_are_nan_and_alone(place):
    pred, target = np.random.default_rng(3).normal(size=(2, 4, 17, 3))
    pred[1], target[2] = place, place
    np.testing.assert_array_equal(np.isnan(p_mpjpe(pred, target)), [False, True, True, False])
    pred[3] = 0.0
    np.testing.assert_array_equal(np.isnan(n_mpjpe(pred, target)), [False, place == 0.0, False, True])


def test_collinear_joints_are_defined():
    line = np.linspace(0, 1, 17)[:, None] * np.array([1.0, 2.0, 3.0])
    np.testing.assert_allclose(p_mpjpe(line[None] @ np.diag([1, -1, 1]), line[None]), 0, atol=1e-9)


def test_accepts_lists_float32_and_torch():
    torch = pytest.importorskip("torch")
    pred, target = np.random.default_rng(4).normal(size=(2, 3, 17, 3)).astype(np.float32)
    expected = p_mpjpe(pred.astype(np.float64), target.astype(np.float64))
    for convert in (torch.from_numpy, np.asfortranarray, lambda a: a.tolist()):
        np.testing.assert_allclose(p_mpjpe(convert(pred), convert(target)), expected, rtol=1e-14)
    with pytest.raises(PoseInputError, match="grad"):
        mpjpe(torch.from_numpy(pred).requires_grad_(), target)


@pytest.mark.parametrize("metric", ALL)
def test_refusals_name_the_fault(metric):
    good = np.zeros((4, 17, 3))
    holed = good.copy()
    holed[2, 5, 1] = np.nan
    with pytest.raises(PoseInputError, match="frame 2, joint 5"):
        metric(good, holed)
    with pytest.raises(PoseInputError, match="infinity"):
        metric(good + np.inf, good)
    with pytest.raises(PoseInputError, match=r"\(4, 17, 3\) and target \(4, 16, 3\)"):
        metric(good, good[:, :16])
    for wrong in (good[0], good[None], good[..., :2], good[:, :0], "poses", [[1, 2], [3]]):
        with pytest.raises(PoseInputError, match="frames, joints, 3"):
            metric(wrong, wrong)
    assert issubclass(PoseInputError, DataError) and issubclass(PoseInputError, ValueError)


def test_metrics_import_no_torch():
    code = "import sys, posescale.metrics; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
