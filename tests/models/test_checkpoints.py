"""Files in the structures of the official code bases load strictly; others are refused in words."""

import io
import os
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from posescale.checkpoints import load_checkpoint, read_weights_meta, save_weights, translate
from posescale.errors import CheckpointError
from posescale.models import create_model


def _model(seed: int = 0, **overrides) -> torch.nn.Module:
    torch.manual_seed(seed)
    return create_model("motionbert_tiny", frames=9, **overrides)


def _same(a: torch.nn.Module, b: torch.nn.Module) -> bool:
    theirs = b.state_dict()
    return all(torch.equal(entry, theirs[name]) for name, entry in a.state_dict().items())


def _official(model: torch.nn.Module) -> dict:
    """What the official training scripts save: data-parallel names, optimizer, numpy numbers and generators."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-4)
    model(torch.rand(1, 3, 17, 3)).sum().backward()
    optimizer.step()
    return {
        "epoch": 87,
        "lr": 8.3e-5,
        "optimizer": optimizer.state_dict(),
        "model_pos": torch.nn.DataParallel(model).state_dict(),
        "min_loss": np.float64(41.8),
        "best": np.float32(1.5),
        "steps": np.int64(12),
        "random_state": np.random.RandomState(1234),
        "errors": np.arange(3.0),
    }


STRUCTURES = {
    "official": _official,
    "model_pos": lambda m: {"model_pos": m.state_dict()},
    "model": lambda m: {"model": m.state_dict(), "epoch": 3},
    "state_dict": lambda m: {"meta": {"x": 1}, "state_dict": m.state_dict()},
    "bare": lambda m: m.state_dict(),
    "bare with prefix": lambda m: torch.nn.DataParallel(m).state_dict(),
}


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
@pytest.mark.parametrize("structure", STRUCTURES)
def test_official_structures_load(tmp_path, structure, legacy):
    source, model = _model(1), _model(2)
    torch.save(STRUCTURES[structure](source), tmp_path / "f.bin", _use_new_zipfile_serialization=not legacy)
    assert not _same(source, model)
    load_checkpoint(model, tmp_path / "f.bin")
    assert _same(source, model)
    assert read_weights_meta(tmp_path / "f.bin") == {}


def test_numpy_1_names_are_understood(tmp_path):
    """Files written with numpy 1 name `numpy.core`, newer ones `numpy._core`."""
    source, model = _model(1), _model(2)
    torch.save(_official(source), tmp_path / "new.bin")
    _rewrite_pickle(tmp_path / "new.bin", tmp_path / "old.bin", lambda p: p.replace(b"numpy._core.", b"numpy.core."))
    assert b"numpy.core." in _pickle_of(tmp_path / "old.bin")
    load_checkpoint(model, tmp_path / "old.bin")
    assert _same(source, model)


def _pickle_of(path: Path) -> bytes:
    with zipfile.ZipFile(path) as archive:
        return archive.read(next(name for name in archive.namelist() if name.endswith("data.pkl")))


def _rewrite_pickle(source: Path, target: Path, change) -> None:
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as new:
        for name in old.namelist():
            new.writestr(name, change(old.read(name)) if name.endswith("data.pkl") else old.read(name))


class Trap:
    def __reduce__(self):
        return (Path.touch, (Path("trap-has-run"),))


def test_a_pickle_that_runs_code_is_refused_and_not_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"model_pos": _model().state_dict(), "extra": Trap()}, "trap.bin")
    with pytest.raises(CheckpointError, match="Nothing was run"):
        load_checkpoint(_model(), "trap.bin")
    assert not Path("trap-has-run").exists()


class Smuggled:
    """Calls numpy's own scalar function with an object type."""

    def __reduce__(self):
        return (np.float64(0).__reduce__()[0], (np.dtype("O"), b"x"))


def test_numpy_objects_are_not_rebuilt(tmp_path):
    torch.save({"model_pos": _model().state_dict(), "extra": Smuggled()}, tmp_path / "f.bin")
    with pytest.raises(CheckpointError, match=r"f\.bin"):
        load_checkpoint(_model(), tmp_path / "f.bin")


@pytest.mark.parametrize("keep", [0, 1, 100, 0.5, 0.999])
def test_a_torn_file_is_refused(tmp_path, keep):
    save_weights(tmp_path / "whole.pt", _model(), {})
    content = (tmp_path / "whole.pt").read_bytes()
    (tmp_path / "torn.pt").write_bytes(content[: keep if isinstance(keep, int) else int(keep * len(content))])
    for read in (lambda path: load_checkpoint(_model(), path), read_weights_meta):
        with pytest.raises(CheckpointError, match=r"torn\.pt: not a readable checkpoint \(\d"):
            read(tmp_path / "torn.pt")


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("content", [b"hello world\n" * 99, pickle.dumps({"a": 1}), b"\x80\x02}q\x00.", b"\x00" * 4096])
def test_another_kind_of_file_is_refused(tmp_path, content):
    (tmp_path / "f.bin").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"f\.bin"):
        load_checkpoint(_model(), tmp_path / "f.bin")


def test_a_missing_file_and_a_folder_are_refused(tmp_path):
    for path in (tmp_path / "none.bin", tmp_path):
        with pytest.raises(CheckpointError, match="no such file"):
            load_checkpoint(_model(), path)


@pytest.mark.parametrize(
    "content", [[1, 2], {}, {"epoch": 3}, torch.zeros(3), {"model_pos": {}}, {"model": {"a": 1}}, 5]
)
def test_a_file_without_weights_is_refused(tmp_path, content):
    torch.save(content, tmp_path / "f.bin")
    with pytest.raises(CheckpointError, match="no weights found; expected a dictionary of tensors"):
        load_checkpoint(_model(), tmp_path / "f.bin")


def test_what_does_not_fit_is_named_and_nothing_is_loaded(tmp_path):
    model = _model(1)
    before = {name: entry.clone() for name, entry in model.state_dict().items()}
    state = _model(2).state_dict()
    state["head.weight"] = torch.zeros(4, 64)
    state["extra.bias"] = torch.zeros(3)
    removed = [name for name in state if name.startswith("blocks_ts.1.")]
    for name in removed:
        del state[name]
    torch.save({"model_pos": state}, tmp_path / "f.bin")
    with pytest.raises(CheckpointError) as refusal:
        load_checkpoint(model, tmp_path / "f.bin")
    words = str(refusal.value)
    assert f"it lacks {len(removed)} entries ({', '.join(removed[:5])}, ...)" in words
    assert "it has unexpected 1 entry (extra.bias)" in words
    assert "it has other shapes for 1 entry (head.weight (4, 64) instead of (3, 64))" in words
    assert str(tmp_path / "f.bin") in words and "DSTformer" in words and removed[5] not in words
    assert all(torch.equal(entry, before[name]) for name, entry in model.state_dict().items())


def test_another_models_file_is_refused(tmp_path):
    save_weights(tmp_path / "f.pt", create_model("posemamba_tiny"), {})
    with pytest.raises(CheckpointError, match=r"it lacks \d+ entries \(temp_embed, .*unexpected \d+ entries"):
        load_checkpoint(_model(), tmp_path / "f.pt")
    with pytest.raises(CheckpointError, match=r"temp_embed \(1, 9, 1, 32\) instead of \(1, 243, 1, 32\)"):
        save_weights(tmp_path / "short.pt", _model(), {})
        load_checkpoint(create_model("motionbert_tiny"), tmp_path / "short.pt")


def test_half_precision_files_load_into_the_models_own_type(tmp_path):
    source, model = _model(1).half(), _model(2).double()
    save_weights(tmp_path / "f.pt", source, {})
    load_checkpoint(model, tmp_path / "f.pt")
    assert next(model.parameters()).dtype == torch.float64 and _same(source.double(), model)


def test_weights_are_written_whole_or_not_at_all(tmp_path, monkeypatch):
    path, first = tmp_path / "new" / "f.pt", _model(1)
    save_weights(path, first, {"epoch": 1})

    def full(_descriptor):
        raise OSError("no space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="no space"):
        save_weights(path, _model(2), {"epoch": 2})
    assert [p.name for p in path.parent.iterdir()] == ["f.pt"]
    assert read_weights_meta(path) == {"epoch": 1}
    load_checkpoint(model := _model(3), path)
    assert _same(first, model)


def test_notes_that_could_not_be_read_back_are_refused(tmp_path):
    for meta in ({"epoch": Path("x")}, {"epoch": io.StringIO}, {"epoch": lambda: 1}):
        with pytest.raises(CheckpointError, match="epoch"):
            save_weights(tmp_path / "f.pt", _model(), meta)
    assert not list(tmp_path.iterdir())
    save_weights(
        tmp_path / "f.pt", _model(), {"loss": np.float64(1.5), "recipe": {"lr": 1e-3, "ema": None, "t": (1, 2)}}
    )
    assert read_weights_meta(tmp_path / "f.pt") == {"loss": 1.5, "recipe": {"lr": 1e-3, "ema": None, "t": (1, 2)}}


def test_key_maps_rename_entries_and_whole_branches():
    state = {"backbone.a.w": 1, "head.w": 2, "backbone.b.w": 3, "same": 4}
    renamed = translate(state, {"backbone.": "trunk.", "backbone.b.": "neck.", "head.w": "out"})
    assert renamed == {"trunk.a.w": 1, "out": 2, "neck.w": 3, "same": 4}
