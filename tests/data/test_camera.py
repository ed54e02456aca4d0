from pathlib import Path

import numpy as np
import pytest

from posescale.data.camera import (
    Camera,
    denormalise_screen,
    in_view,
    look_at,
    named_seed,
    normalise_screen,
    quaternion_of,
    rig,
    rotation_matrix,
)
from posescale.errors import DataError

GOLDEN = Path(__file__).parents[1] / "goldens" / "camera.npz"
CASES = ["S9/Walking/1", "S11/Posing/3", "S1/Directions/0"]


def _golden(case):
    return {k.rsplit("/", 1)[1]: v for k, v in np.load(GOLDEN).items() if k.startswith(case + "/")}


def _pose_of(world, camera):
    """Orientation (camera -> world) and position that explain world and camera points: Kabsch, independent of ours."""
    w, c = world.reshape(-1, 3).astype(float), camera.reshape(-1, 3).astype(float)
    u, _, vt = np.linalg.svd((c - c.mean(0)).T @ (w - w.mean(0)))
    flip = np.diag([1, 1, np.sign(np.linalg.det(vt.T @ u.T))])
    rotation = vt.T @ flip @ u.T
    return rotation, w.mean(0) - rotation @ c.mean(0)


@pytest.mark.parametrize("case", CASES)
def test_agrees_with_the_official_conventions(case):
    g = _golden(case)
    rotation, position = _pose_of(g["world"], g["camera"])
    width, height = 1000, 1002 if case.endswith(("/0", "/3")) else 1000
    camera = Camera.from_normalised("c", g["intrinsic9"], width, height, quaternion_of(rotation), position)
    assert np.abs(camera.to_camera(g["world"]) - g["camera"]).max() < 5e-6
    assert np.abs(camera.to_world(g["camera"]) - g["world"]).max() < 5e-6
    pixels = camera.project(g["camera"])
    assert np.abs(normalise_screen(pixels, width, height) - g["proj_norm"]).max() < 1e-6
    assert np.abs(pixels - g["proj_px"]).max() < 1e-3
    assert np.abs(normalise_screen(g["proj_px"], width, height) - g["renorm"]).max() < 1e-12
    assert np.abs(denormalise_screen(g["renorm"], width, height) - g["proj_px"]).max() < 1e-9
    straight = np.concatenate([g["intrinsic9"][:4], np.zeros(5)])
    linear = Camera.from_normalised("c", straight, width, height, quaternion_of(rotation), position)
    assert np.abs(normalise_screen(linear.project(g["camera"]), width, height) - g["proj_linear_norm"]).max() < 1e-6


def test_quaternions_round_trip_everywhere():
    rng = np.random.default_rng(0)
    special = [(1, 0, 0, 0), (0, 1, 0, 0), (0, 0, 1, 0), (0, 0, 0, 1), (0.5, -0.5, 0.5, -0.5)]
    for q in [*special, *rng.standard_normal((50, 4))]:
        rotation = rotation_matrix(q)
        assert np.abs(rotation @ rotation.T - np.eye(3)).max() < 1e-12 and np.linalg.det(rotation) > 0
        assert np.abs(rotation_matrix(quaternion_of(rotation)) - rotation).max() < 1e-12
    # w, x, y, z: a quarter turn about z takes x to y
    assert np.allclose(rotation_matrix((np.sqrt(0.5), 0, 0, np.sqrt(0.5))) @ [1, 0, 0], [0, 1, 0])


@pytest.mark.parametrize("bad", [(0, 0, 0, 0), (1, 0, 0), (np.nan, 0, 0, 1)])
def test_refuses_what_is_no_quaternion(bad):
    with pytest.raises((DataError, ValueError)):
        rotation_matrix(bad)


def test_look_at_is_upright_and_centred():
    position, target = (3.0, -2.0, 1.5), (0.5, 0.2, 0.9)
    camera = Camera("c", look_at(position, target), position, (1145, 1145), (500, 500), 1000, 1000)
    assert np.allclose(camera.project(camera.to_camera([target])), [[500, 500]])
    above, right = camera.to_camera([np.add(target, (0, 0, 0.3))]), camera.to_camera([target])
    assert camera.project(above)[0, 1] < 500 and abs(camera.project(above)[0, 0] - 500) < 1e-9
    assert right[0, 2] == pytest.approx(np.linalg.norm(np.subtract(target, position)))
    with pytest.raises(DataError, match="straight"):
        look_at((0, 0, 5), (0, 0, 0))


def test_nothing_behind_the_camera_is_projected():
    camera = Camera("c", (1, 0, 0, 0), (0, 0, 0), (1145, 1145), (500, 500), 1000, 1000)
    for depth in (0.0, -1.0, np.nan):
        with pytest.raises(DataError, match="in front"):
            camera.project([[0, 0, depth]])


def test_screen_units_keep_the_aspect():
    corners = np.array([[0, 0], [1920, 1080], [960, 540]])
    assert np.allclose(normalise_screen(corners, 1920, 1080), [[-1, -0.5625], [1, 0.5625], [0, 0]])
    sizes = np.array([1000, 2000])[:, None]
    both = normalise_screen(np.zeros((2, 5, 2)), sizes, sizes / 2)
    assert both.shape == (2, 5, 2) and np.allclose(both, [-1, -0.5])


@pytest.mark.parametrize("spread", [0.3, 4.0])
def test_rig_sees_everyone_from_human36m_like_places(spread):
    rng = np.random.default_rng(1)
    path = np.cumsum(rng.uniform(-1, 1, (200, 1, 3)) * [spread / 20, spread / 20, 0], axis=0)
    trial = path + rng.uniform([-0.4, -0.4, 0], [0.4, 0.4, 1.8], (200, 17, 3))
    cameras = rig(7, trial)
    assert [c.id for c in cameras] == ["cam0", "cam1", "cam2", "cam3"]
    middle = (trial.reshape(-1, 3).max(0) + trial.reshape(-1, 3).min(0)) / 2
    for camera in cameras:
        assert 1140 <= camera.focal[0] <= 1150 and 1.2 <= camera.position[2] <= 1.8
        distance = np.hypot(*(np.array(camera.position[:2]) - middle[:2]))
        assert distance >= 4 and (spread > 1 or distance <= 7)
        seen = camera.to_camera(trial)
        assert seen[..., 2].min() > 0.5 and in_view(camera.project(seen), camera).all()
    assert rig(7, trial) == cameras and rig(8, trial) != cameras


def test_named_seeds_are_fixed_forever():
    assert named_seed("trial", 0, "S01", 3) == int.from_bytes(
        __import__("hashlib").sha256(b"trial/0/S01/3").digest()[:8], "little"
    )
    assert named_seed("a", "b") != named_seed("b", "a")
