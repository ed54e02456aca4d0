import numpy as np
import pytest

from posescale.data import catalog
from posescale.data.camera import named_seed, rig
from posescale.data.prepared import PreparedData
from posescale.data.skeleton import LEFT, PARENTS, RIGHT
from posescale.data.synthetic_motion import actions
from posescale.data.synthetic_motion.body import ANKLE_HEIGHT, COLUMN, LIMITS, draw_body, pose, stand
from posescale.data.synthetic_motion.reader import Settings, generate, split_of
from posescale.errors import ConfigError

EVERYTHING = Settings(trials=len(actions.ACTIONS), seconds=6)


def _lengths(joints):
    return np.linalg.norm(joints[:, 1:] - joints[:, PARENTS[1:]], axis=-1)


def _angle(joints, a, b, c):
    """Degrees at b between a and c."""
    u, v = joints[:, a] - joints[:, b], joints[:, c] - joints[:, b]
    return np.degrees(np.arccos((u * v).sum(-1) / np.linalg.norm(u, axis=-1) / np.linalg.norm(v, axis=-1)))


@pytest.fixture(scope="module")
def trials():
    return {name: generate(EVERYTHING, 1, n) for n, name in enumerate(actions.ACTIONS)}


def test_there_are_the_promised_actions(trials):
    wanted = {"walk", "run", "reach", "wave", "squat", "sit", "jump", "turn", "pick_up", "box"}
    assert wanted <= set(trials) and all(t.action == name for name, t in trials.items())


def test_bones_are_rigid_and_alike_left_and_right(trials):
    lengths = np.concatenate([_lengths(t.joints) for t in trials.values()])
    assert np.ptp(lengths, axis=0).max() < 1e-12
    mean = np.concatenate([[0], lengths.mean(0)])
    assert np.allclose(mean[LEFT], mean[RIGHT])
    other = _lengths(generate(EVERYTHING, 2, 0).joints).mean(0)
    assert np.abs(other - mean[1:]).max() > 0.005


def test_feet_are_on_the_floor_and_heads_above_it(trials):
    for name, trial in trials.items():
        ankle = trial.joints[:, [3, 6], 2].min(1)
        assert ankle.min() > ANKLE_HEIGHT - 0.02, name
        assert np.median(ankle) < ANKLE_HEIGHT + 0.03, name
        assert ankle.max() < ANKLE_HEIGHT + 0.65 and trial.joints[..., 2].min() > 0, name
    assert trials["jump"].joints[:, [3, 6], 2].min(1).max() > 0.15


def test_knees_and_elbows_bend_as_people_can(trials):
    for name, trial in trials.items():
        j = trial.joints
        for a, b, c in ((1, 2, 3), (4, 5, 6), (11, 12, 13), (14, 15, 16)):
            assert _angle(j, a, b, c).min() > 30, name
        # a knee points to where the thigh goes, never back: the ankle is behind the line hip - knee
        pelvis = j[:, 4] - j[:, 1]
        forward = np.stack([pelvis[:, 1], -pelvis[:, 0], 0 * pelvis[:, 0]], axis=-1)
        for h, k, a in ((1, 2, 3), (4, 5, 6)):
            normal = np.cross(j[:, k] - j[:, h], j[:, a] - j[:, k])
            assert (np.cross(forward, [0, 0, 1.0]) * normal).sum(-1).max() < 0.05, name


def test_motion_is_smooth(trials):
    for name, trial in trials.items():
        speed = np.linalg.norm(np.diff(trial.joints, axis=0), axis=-1) * EVERYTHING.fps
        acceleration = np.linalg.norm(np.diff(trial.joints, 2, axis=0), axis=-1) * EVERYTHING.fps**2
        assert speed.max() < 15 and acceleration.max() < 400, name
        assert speed.mean() > 0.05, name  # and there is motion


def test_the_standing_foot_does_not_slide():
    body = draw_body(np.random.default_rng(0))
    seconds = np.arange(300) / 100
    angles, _ = actions.perform("walk", seconds, actions.draw_style(np.random.default_rng(1)), np.random.default_rng(2))
    joints = stand(pose(body, angles, np.zeros(300)), angles[:, 0], 100)
    feet = joints[:, [3, 6]]
    low = feet[..., 2].argmin(1)[1:-1]
    speed = np.linalg.norm(np.gradient(feet[..., :2], 0.01, axis=0), axis=-1)[1:-1]
    assert np.median(speed[np.arange(len(low)), low]) < 0.15
    assert 0.7 < np.linalg.norm(np.diff(joints[:, 0, :2], axis=0), axis=-1).mean() * 100 < 2.0


def test_forward_kinematics_by_hand():
    body = draw_body(np.random.default_rng(0))
    angles = np.zeros((2, len(LIMITS)))
    angles[1, [COLUMN["l_hip"], COLUMN["r_shoulder_abduction"], COLUMN["l_knee"]]] = 90
    still, moved = pose(body, angles, np.array([0.0, 0.0]))
    thigh, shin = body.lengths[4], body.lengths[5]
    assert np.allclose(still[6] - still[4], [0, 0, -thigh - shin])
    assert np.allclose(moved[5] - moved[4], [thigh, 0, 0]) and np.allclose(moved[6] - moved[5], [0, 0, -shin])
    arm = moved[16] - moved[14]
    assert arm[1] < -0.4 and np.abs(arm[[0, 2]]).max() < 1e-12  # the right arm, out to the right
    turned = pose(body, angles, np.array([90.0, 90.0]))[1]
    assert np.allclose(turned[5] - turned[4], [0, thigh, 0])


def test_same_seed_same_digest_and_another_seed_another(tmp_path, small):
    again = catalog.prepare("synthetic_motion", tmp_path / "again", settings=small.index.settings)
    assert again.digest == small.index.digest
    for name in ("poses.npy", "exact.npy", "detections.npy", "index.json"):
        assert (tmp_path / "again" / name).read_bytes() == (small.folder / name).read_bytes()
    other = catalog.prepare("synthetic_motion", tmp_path / "other", settings=small.index.settings | {"seed": 1})
    assert other.digest != again.digest


def test_a_trial_does_not_depend_on_the_others():
    few, many = Settings(subjects=3, trials=1), Settings(subjects=9, trials=5)
    assert generate(few, 2, 0).joints.tobytes() == generate(many, 2, 0).joints.tobytes()


def test_exact_2d_is_the_projection_of_the_stored_poses(small):
    settings = Settings(**small.index.settings)
    for s in small.index.sequences:
        subject, number = int(s.subject[1:]) - 1, int(s.name.split("_")[1]) - 1
        trial = generate(settings, subject, number)
        camera = {c.id: c for c in rig(named_seed("rig", 0, s.subject, trial.name), trial.joints, 2)}[s.camera]
        rows = slice(s.start, s.start + s.length)
        assert (camera.project(small.poses[rows]).astype(np.float32) == small.exact[rows]).all()
        assert np.abs(camera.to_world(small.poses[rows]) - trial.joints).max() < 2e-6
        assert (small.exact[rows] > 0).all() and (small.exact[rows] < 1000).all()


def test_cameras_of_one_trial_share_its_name(small):
    found = {}
    for s in small.index.sequences:
        found.setdefault(s.performance, set()).add(s.name)
    assert all({n.rsplit(".", 1)[0] for n in names} == {p} for p, names in found.items())
    assert {len(names) for names in found.values()} == {small.index.settings["cameras"]}


def test_bones_stay_rigid_in_the_stored_poses(small):
    for s in small.index.sequences:
        assert np.ptp(_lengths(small.poses[s.start : s.start + s.length]), axis=0).max() < 5e-6


@pytest.mark.parametrize("subjects", [3, 4, 8, 20])
def test_splits_are_disjoint_by_subject_and_none_is_empty(subjects):
    splits = [split_of(n, subjects) for n in range(subjects)]
    assert set(splits) == {"train", "val", "test"} and splits.count("train") >= max(1, subjects // 2)


def test_prepared_splits_are_disjoint(small):
    of = {split: {s.subject for s in small.sequences(split)} for split in ("train", "val", "test")}
    assert all(of.values()) and not (of["train"] & of["val"] | of["train"] & of["test"] | of["val"] & of["test"])


@pytest.mark.parametrize("wrong", [{"subject": 3}, {"subjects": 2}, {"fps": 0}, {"seconds": "long"}, {"cameras": 0}])
def test_wrong_settings_are_refused(tmp_path, wrong):
    with pytest.raises(ConfigError, match=f"synthetic_motion: {next(iter(wrong))}"):
        catalog.prepare("synthetic_motion", tmp_path / "x", settings=wrong)
    assert not any(tmp_path.iterdir())


def test_any_length_and_rate(tmp_path):
    settings = {"subjects": 3, "trials": 1, "seconds": 0.01, "fps": 7, "cameras": 1, "image_size": 500}
    catalog.prepare("synthetic_motion", tmp_path / "x", settings=settings)
    data = PreparedData(tmp_path / "x")
    assert {s.length for s in data.index.sequences} == {2} and data.index.sequences[0].width == 500
