"""Units and joint orders that cannot be are found by bones alone."""

import numpy as np
import pytest

from posescale.data.plausibility import check_person
from posescale.data.skeleton import H36M, MPI_INF_3DHP
from posescale.errors import DataError

# H36M's index of each joint of MPI-INF-3DHP
ORDER = [10, 8, 14, 15, 16, 11, 12, 13, 1, 2, 3, 4, 5, 6, 0, 7, 9]


@pytest.fixture(scope="module")
def sequences(small):
    return {s.name: np.array(small.poses[s.rows], dtype=np.float64) for s in small.index.sequences}


def test_people_pass_in_every_unit_and_skeleton(sequences):
    for name, poses in sequences.items():
        check_person(name, poses, H36M, 1.0)
        check_person(name, 1000 * poses, H36M, 0.001)
        check_person(name, 231 * poses, H36M, None)
        check_person(name, 1000 * poses[:, ORDER], MPI_INF_3DHP, 0.001)
        check_person(name, poses[:1], H36M, 1.0)


@pytest.mark.parametrize(
    ("unit", "factor", "words"),
    [(0.001, 1, "in metres"), (1.0, 1000, "in millimetres"), (0.001, 100, "in centimetres"), (1.0, 1e9, "order")],
)
def test_wrong_units_are_named(sequences, unit, factor, words):
    name, poses = next(iter(sequences.items()))
    with pytest.raises(DataError, match=rf"{name}: the bone Hip - RHip is .* m long \(median\).*{words}"):
        check_person(name, factor * poses, H36M, unit)


@pytest.mark.parametrize("scale", [1.0, None])
@pytest.mark.parametrize("swap", [(2, 15), (3, 16), (10, 3), (5, 12), (2, 3), (12, 13), (0, 10), (1, 6), (8, 13)])
def test_swapped_joints_are_found(sequences, swap, scale):
    order = list(range(17))
    order[swap[0]], order[swap[1]] = order[swap[1]], order[swap[0]]
    with pytest.raises(DataError, match="bone"):  # one sequence may hide a swap, a whole file does not
        for name, poses in sequences.items():
            check_person(name, poses[:, order], H36M, scale)


def test_another_skeletons_order_is_found(sequences):
    for name, poses in sequences.items():
        with pytest.raises(DataError, match=name):
            check_person(name, poses, MPI_INF_3DHP, 1.0)
        with pytest.raises(DataError, match=name):
            check_person(name, poses[:, ORDER], H36M, 1.0)


def test_limbs_that_stretch_and_sides_that_differ_are_found(sequences):
    name, poses = next(iter(sequences.items()))
    stretched = poses.copy()
    stretched[::2, 13] += 0.4 * (poses[::2, 13] - poses[::2, 12])
    with pytest.raises(DataError, match="LElbow - LWrist changes its length"):
        check_person(name, stretched, H36M, 1.0)
    uneven = poses.copy()
    uneven[:, 6] += 0.5 * (poses[:, 6] - poses[:, 5])
    with pytest.raises(DataError, match="LFoot"):
        check_person(name, uneven, H36M, 1.0)
    with pytest.raises(DataError, match="no length"):
        check_person(name, np.zeros((3, 17, 3)), H36M, None)


def test_a_few_bad_frames_do_not_decide(sequences):
    name, poses = next(iter(sequences.items()))
    poses = poses.copy()
    poses[:5] = 0
    check_person(name, poses, H36M, 1.0)
