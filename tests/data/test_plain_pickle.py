"""Pickles of arrays are read; anything else is refused and not run."""

import pickle
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest

from posescale.data.plain_pickle import load_npz, load_pickle
from posescale.errors import DataError

CONTENT = {
    "S1 Seq1": [{"0": {"data_2d": np.arange(12.0).reshape(2, 3, 2)}}, 25],
    "names": np.array(["s_09", "s_11"]),
    "objects": np.array([np.float32(1), None, "x"], dtype=object),
    "numbers": (np.float64(1.5), np.int64(3), np.bool_(True), 2.0, b"raw", True),
    "ordered": OrderedDict(a=np.asfortranarray(np.eye(3, dtype=np.float32))),
    "big endian": np.arange(3, dtype=">i4"),
    "empty": np.zeros((0, 17, 3), np.float32),
}


def same(a, b):
    if isinstance(a, np.ndarray):
        return (
            a.dtype.newbyteorder("=") == b.dtype.newbyteorder("=")
            and a.shape == b.shape
            and (a.astype(object) == b.astype(object)).all()
        )
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    return type(a) is type(b) and a == b


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_arrays_and_plain_containers_are_read(tmp_path, protocol):
    (tmp_path / "f.pkl").write_bytes(pickle.dumps(CONTENT, protocol=protocol))
    assert same(load_pickle(tmp_path / "f.pkl"), CONTENT)


def test_numpy_1_files_are_read(tmp_path):
    old = pickle.dumps(CONTENT, protocol=2).replace(b"numpy._core.", b"numpy.core.")
    (tmp_path / "f.pkl").write_bytes(old)
    assert b"numpy.core.multiarray" in old and same(load_pickle(tmp_path / "f.pkl"), CONTENT)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_npz_entries(tmp_path, save):
    several = np.array([{"a": 1}, [2]], dtype=object)
    turned = np.arange(24.0).reshape(2, 3, 4).transpose(1, 0, 2)
    plain = np.asfortranarray(np.eye(3))
    save(tmp_path / "f.npz", data=CONTENT, plain=plain, several=several, turned={"t": turned})
    assert same(load_npz(tmp_path / "f.npz", "data"), CONTENT)
    assert same(load_npz(tmp_path / "f.npz", "plain"), np.eye(3))
    assert load_npz(tmp_path / "f.npz", "several")[0] == {"a": 1}
    assert same(load_npz(tmp_path / "f.npz", "turned")["t"], turned)
    with pytest.raises(DataError, match="no entry 'other'; it holds data, plain, several"):
        load_npz(tmp_path / "f.npz", "other")


class Trap:
    def __reduce__(self):
        return (Path.touch, (Path("trap-has-run"),))


class Smuggled:
    """Calls numpy's own scalar function with an object type."""

    def __reduce__(self):
        return (np.float64(0).__reduce__()[0], (np.dtype("O"), b"x" * 8))


@pytest.mark.parametrize("trap", [Trap(), Smuggled(), np.random.default_rng, eval, {1, 2}.__class__])
def test_code_is_refused_and_not_run(tmp_path, monkeypatch, trap):
    monkeypatch.chdir(tmp_path)
    Path("f.pkl").write_bytes(pickle.dumps({"a": trap}))
    np.savez("f.npz", data=np.array({"a": trap}, dtype=object))
    for read in (lambda: load_pickle("f.pkl"), lambda: load_npz("f.npz", "data")):
        with pytest.raises(DataError, match=r"f\.(pkl|npz)"):
            read()
    assert not Path("trap-has-run").exists()


def test_the_refused_name_is_told(tmp_path):
    (tmp_path / "f.pkl").write_bytes(pickle.dumps({"a": Trap()}))
    with pytest.raises(DataError, match="asks for pathlib.*Nothing was run"):
        load_pickle(tmp_path / "f.pkl")


@pytest.mark.parametrize("keep", [0, 1, 50, 0.5, 0.9, 0.999])
def test_torn_files_are_refused(tmp_path, keep):
    np.savez(tmp_path / "f.npz", data=CONTENT)
    (tmp_path / "f.pkl").write_bytes(pickle.dumps(CONTENT))
    for name in ("f.npz", "f.pkl"):
        whole = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(whole[: keep if isinstance(keep, int) else int(keep * len(whole))])
    with pytest.raises(DataError, match=r"f\.npz: torn"):
        load_npz(tmp_path / "f.npz", "data")
    with pytest.raises(DataError, match=r"f\.pkl: torn"):
        load_pickle(tmp_path / "f.pkl")


def test_a_flipped_bit_is_noticed(tmp_path):
    np.savez(tmp_path / "f.npz", data={"x": np.zeros(100_000)})
    content = bytearray((tmp_path / "f.npz").read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / "f.npz").write_bytes(content)
    with pytest.raises(DataError, match="torn"):
        load_npz(tmp_path / "f.npz", "data")


def test_missing_and_foreign_files(tmp_path):
    (tmp_path / "text").write_text("hello world, this is no pickle")
    for read in (load_pickle, lambda path: load_npz(path, "data")):
        for name in ("none", "text"):
            with pytest.raises(DataError, match=name):
                read(tmp_path / name)
