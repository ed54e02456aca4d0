"""Pickles and npz files of arrays come back as they were written; nothing else comes back at all."""

import collections
import os
import pickle

import numpy as np
import pytest

from posescale.data.plain_pickle import load_npz, load_pickle
from posescale.errors import DataError

CONTENT = {
    "floats": np.arange(12.0).reshape(3, 4), "fortran": np.asfortranarray(np.arange(12).reshape(3, 4)),
    "words": np.array(["a", "bcd"]), "flags": np.array([True, False]), "empty": np.zeros((0, 17, 3), np.float32),
    "objects": np.array([np.arange(3), "x", None, {"k": (1, 2.5)}], dtype=object), "scalar": np.float32(1.5),
    "plain": [1, "two", 3.0, None, True, (4, 5), b"six"], "ordered": collections.OrderedDict(a=1),
    "big": np.float64(1.5).astype(">f8"), "none": np.array(None),
}  # fmt: skip


def same(a, b):
    if isinstance(a, np.ndarray):
        assert a.dtype == b.dtype and a.shape == b.shape
        for x, y in zip(a.ravel().tolist(), b.ravel().tolist(), strict=True):
            same(x, y)
    elif isinstance(a, list):
        for x, y in zip(a, b, strict=True):
            same(x, y)
    elif isinstance(a, dict):
        assert list(a) == list(b)
        for key in a:
            same(a[key], b[key])
    else:
        assert type(a) is type(b) and a == b


@pytest.mark.parametrize("protocol", range(2, 6))
def test_every_pickle_protocol(tmp_path, protocol):
    path = tmp_path / "a.pkl"
    path.write_bytes(pickle.dumps(CONTENT, protocol))
    same(load_pickle(path), CONTENT)


def test_names_of_older_numpy_and_python_2(tmp_path):
    written = pickle.dumps({"a": np.arange(3), "s": np.float64(2)}, 2)
    path = tmp_path / "old.pkl"
    path.write_bytes(written.replace(b"numpy._core.multiarray", b"numpy.core.multiarray"))
    same(load_pickle(path), {"a": np.arange(3), "s": np.float64(2)})
    # {'x': array([1, 2])} as Python 2 wrote it: byte strings for text and for the array's bytes
    path.write_bytes(
        b"\x80\x02}q\x00U\x01xq\x01cnumpy.core.multiarray\n_reconstruct\nq\x02cnumpy\nndarray\nq\x03K\x00\x85U\x01b\x87R"
        b"(K\x01K\x02\x85cnumpy\ndtype\nU\x02i8K\x00K\x01\x87R(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89"
        b"U\x10\x01\x00\x00\x00\x00\x00\x00\x00\x02\x00\x00\x00\x00\x00\x00\x00tbs."
    )
    same(load_pickle(path), {"x": np.array([1, 2])})


def test_npz_entries(tmp_path):
    path = tmp_path / "a.npz"
    nested = np.array({"S1": [CONTENT["floats"], 5]}, dtype=object)
    np.savez(path, data=nested, plain=CONTENT["fortran"], big=CONTENT["floats"])
    same(load_npz(path, "data"), {"S1": [CONTENT["floats"], 5]})
    same(load_npz(path, "plain"), CONTENT["fortran"])
    with pytest.raises(DataError, match="no entry 'other'; it holds data, plain, big"):
        load_npz(path, "other")


class Calls:
    def __init__(self, function, *arguments):
        self.made = function, arguments

    def __reduce__(self):
        return self.made


@pytest.mark.parametrize(
    ("function", "arguments"),
    [
        (os.system, ("touch written",)), (eval, ("1",)), (getattr, ("", "join")), (np.load, ("x",)),
        (np.frombuffer, (b"12345678",)), (pickle.loads, (b"N.",)),
    ],
)  # fmt: skip
def test_nothing_else_is_called(tmp_path, monkeypatch, function, arguments):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "a.pkl"
    path.write_bytes(pickle.dumps([1, Calls(function, *arguments)]))
    with pytest.raises(DataError, match=r"asks for \S+, and only arrays.*Nothing was run"):
        load_pickle(path)
    assert not (tmp_path / "written").exists()


def test_admitted_constructors_build_no_objects(tmp_path):
    reconstruct = np.zeros(1).__reduce__()[0]
    scalar = np.float32(1).__reduce__()[0]
    path = tmp_path / "a.pkl"
    for made in (Calls(reconstruct, collections.OrderedDict, (0,), b"b"), Calls(scalar, np.dtype(object), b"x")):
        path.write_bytes(pickle.dumps(made))
        with pytest.raises(DataError, match="torn, or not a pickle"):
            load_pickle(path)


def test_a_missing_file_is_named(tmp_path):
    for read in (load_pickle, lambda path: load_npz(path, "a")):
        with pytest.raises(DataError, match="nothing.pkl: cannot be read"):
            read(tmp_path / "nothing.pkl")
