import numpy as np
import pytest
from pydantic import ValidationError

from posescale.data.detector import DetectorSettings, detect
from posescale.data.skeleton import LEFT, RIGHT

EXACT = np.random.default_rng(0).uniform(200, 800, (3000, 17, 2)).astype(np.float32)
CLEAN = {"occlusion_rate": 0, "swap_rate": 0}


def _detect(seed=1, width=1000, exact=EXACT, **settings):
    return detect(exact, seed, DetectorSettings(**settings), width, LEFT, RIGHT)


def _auc(score, good):
    """Probability that a good one scores higher than a bad one (Mann-Whitney)."""
    order = np.empty(len(score))
    order[np.argsort(score)] = np.arange(1, len(score) + 1)
    n = good.sum()
    return (order[good].sum() - n * (n + 1) / 2) / (n * (len(score) - n))


@pytest.mark.parametrize("noise", [3.0, 4.0, 6.0])
def test_noise_has_the_level_asked_for(noise):
    error = _detect(noise_px=noise, **CLEAN)[..., :2] - EXACT
    assert error.std() == pytest.approx(noise, rel=0.02) and abs(error.mean()) < 0.05
    wide = _detect(noise_px=noise, width=2000, **CLEAN)[..., :2] - EXACT
    assert wide.std() == pytest.approx(2 * noise, rel=0.02)


def test_no_noise_is_no_error():
    found = _detect(noise_px=0, **CLEAN)
    assert (found[..., :2] == EXACT).all() and (found[..., 2] == 1).all()


def test_occlusions_come_in_bursts():
    error = _detect(noise_px=0, occlusion_rate=0.002, swap_rate=0)[..., :2] - EXACT
    hit = (error != 0).any(-1)
    runs = [len(r) for j in range(17) for r in "".join("x" if h else " " for h in hit[:, j]).split()]
    assert 0.01 < hit.mean() < 0.04 and np.median(runs) > 5
    assert sum(r < 5 for r in runs) <= 17  # only where the sequence ends
    assert error[hit].std() == pytest.approx(25, rel=0.15)


def test_swaps_exchange_left_and_right_of_a_limb_pair():
    found = _detect(noise_px=0, occlusion_rate=0, swap_rate=0.01)[..., :2]
    changed = (found != EXACT).any(-1)
    assert 0.01 < changed[:, LEFT[0]].mean() < 0.2
    for left, right in zip(LEFT, RIGHT):
        frames = changed[:, left]
        assert (found[frames, left] == EXACT[frames, right]).all() and (
            found[frames, right] == EXACT[frames, left]
        ).all()
    assert (changed[:, LEFT[0]] == changed[:, LEFT[2]]).all() and not changed[:, [0, 7, 8, 9, 10]].any()


def test_confidence_knows_the_error():
    found = _detect()
    error = np.linalg.norm(found[..., :2] - EXACT, axis=-1).ravel()
    confidence = found[..., 2].ravel()
    assert confidence.min() >= 0 and confidence.max() <= 1
    assert _auc(confidence, error < 20) > 0.8
    assert np.corrcoef(np.argsort(np.argsort(confidence)), np.argsort(np.argsort(error)))[0, 1] < -0.7
    assert len(np.unique(confidence[np.abs(error - 10) < 0.05].round(3))) > 10  # it does not give the error away


def test_same_seed_same_bits():
    assert _detect().tobytes() == _detect().tobytes() and _detect().dtype == np.float32
    assert _detect(seed=2).tobytes() != _detect().tobytes()


def test_unknown_or_impossible_settings_are_refused():
    for wrong in ({"noise": 4}, {"noise_px": -1}, {"swap_rate": 1.5}, {"noise_px": float("nan")}):
        with pytest.raises(ValidationError):
            DetectorSettings(**wrong)
