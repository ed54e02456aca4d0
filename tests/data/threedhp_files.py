"""Small files in the real formats of MPI-INF-3DHP, filled with synthetic motion."""

from pathlib import Path

import h5py
import numpy as np
import scipy.io

# H36M's index of each of the 17 joints, and their places among the 28 of the training annotations.
ORDER = [10, 8, 14, 15, 16, 11, 12, 13, 1, 2, 3, 4, 5, 6, 0, 7, 9]
PLACES = [7, 5, 14, 15, 16, 9, 10, 11, 23, 24, 25, 18, 19, 20, 4, 3, 6]
CAMERAS = ["0", "1", "2", "4", "5", "6", "7", "8"]


def content(small):
    """Training and test as the npz hold them, from prepared synthetic motion seen by two cameras."""
    views = [_view(small, s) for s in small.index.sequences]
    train = {
        "S1 Seq1": [{c: _copy(views[int(c) % 2]) for c in CAMERAS}, 25],
        "S2 Seq2": [{c: _copy(views[2 + int(c) % 2]) for c in CAMERAS}, 25],
    }
    return train, {"TS1": _test(views[4], 2.048), "TS5": _test(views[5], 1.08)}


def _view(small, sequence):
    pixels = 2.048 * np.array(small.exact[sequence.rows][:, ORDER], dtype=np.float64)
    return {"data_2d": pixels, "data_3d": 1000 * np.array(small.poses[sequence.rows][:, ORDER], dtype=np.float64)}


def _copy(view):
    return {name: array.copy() for name, array in view.items()}


def _test(view, scale):
    frames = len(view["data_3d"])
    valid = (np.arange(frames) % 4 != 0).astype(float)
    return {"data_2d": view["data_2d"] * scale / 2.048, "data_3d": view["data_3d"], "valid": valid}


def activity(frames):
    return np.arange(frames) % 7 + 1.0


def write_npz(folder: Path, train=None, test=None):
    folder.mkdir(parents=True, exist_ok=True)
    if train is not None:
        np.savez(folder / "data_train_3dhp.npz", data=train)
    if test is not None:
        np.savez(folder / "data_test_3dhp.npz", data=test)


def train_variables(entry) -> dict:
    """The variables of annot.mat for an entry of the npz."""
    cells = {name: np.empty((14, 1), dtype=object) for name in ("annot2", "annot3", "univ_annot3")}
    for camera in range(14):
        view = entry[0].get(str(camera), entry[0]["0"])
        cells["annot2"][camera, 0] = _spread(view["data_2d"])
        cells["univ_annot3"][camera, 0] = _spread(view["data_3d"])
        cells["annot3"][camera, 0] = _spread(1.1 * view["data_3d"])
    return cells | {"cameras": np.arange(14.0)[:, None], "frames": np.arange(float(len(view["data_2d"])))[:, None]}


def _spread(joints):
    """17 joints as 28, the others at the origin: (F, 28 * axes)."""
    whole = np.zeros((len(joints), 28, joints.shape[-1]))
    whole[:, PLACES] = joints
    return whole.reshape(len(joints), -1)


def test_variables(entry) -> dict:
    """The variables of annot_data.mat for an entry of the npz, axes as HDF5 gives them."""
    frames = len(entry["data_3d"])
    return {
        "annot2": entry["data_2d"][:, None],
        "annot3": 1.1 * entry["data_3d"][:, None],
        "univ_annot3": entry["data_3d"][:, None],
        "valid_frame": entry["valid"][:, None],
        "activity_annotation": activity(frames)[:, None],
    }


def write_train_mat(folder: Path, name: str, variables: dict) -> Path:
    path = folder / name.replace(" ", "/") / "annot.mat"
    path.parent.mkdir(parents=True, exist_ok=True)
    scipy.io.savemat(path, variables, do_compression=True)
    return path


def write_test_mat(folder: Path, name: str, variables: dict) -> Path:
    path = folder / "mpi_inf_3dhp_test_set" / name / "annot_data.mat"
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        for key, value in variables.items():
            file[key] = value
    return path


def write_mats(folder: Path, train, test):
    for name, entry in train.items():
        write_train_mat(folder, name, train_variables(entry))
    for name, entry in test.items():
        write_test_mat(folder, name, test_variables(entry))
