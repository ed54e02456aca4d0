"""Official checkpoints: entries on cards, hashes noted at first use, another model's file recognised."""

import json

import pytest
import torch
import typer
from typer.testing import CliRunner

from posescale import lockfile
from posescale.cards import component, components
from posescale.checkpoints import load_checkpoint
from posescale.commands.checkpoints import checkpoints
from posescale.errors import CheckpointError
from posescale.identify import looks_like, shapes_of
from posescale.models import create_model


def _save(path, name="posemamba_s", under="model_pos", prefix="module.", **parameters):
    """A file as the official code writes it, with weights of zero."""
    path.parent.mkdir(parents=True, exist_ok=True)
    state = {prefix + key: torch.zeros(shape) for key, shape in shapes_of(name, **parameters).items()}
    torch.save({under: state, "epoch": 3} if under else state, path)
    return path


def _list(*words):
    app = typer.Typer()
    app.command()(checkpoints)
    return json.loads(CliRunner().invoke(app, [*words, "--json"]).stdout)


def test_entries_on_cards_are_whole_and_can_be_built():
    entries = [(n, c) for n in components() for c in component(n).card.variants[n].checkpoints]
    assert len(entries) >= 20
    for component_id in {component(n).card.id for n, _ in entries}:
        own = [c.name for n, c in entries if component(n).card.id == component_id]
        assert len(set(own)) == len(own), component_id
    for name, checkpoint in entries:
        assert checkpoint.source and checkpoint.file and "/" not in checkpoint.name and " " not in checkpoint.name
        assert checkpoint.sha256 is None or len(checkpoint.sha256) == 64
        assert shapes_of(name, **checkpoint.parameters)


def test_the_list_says_what_is_here(tmp_path, monkeypatch):
    monkeypatch.setenv("POSESCALE_CHECKPOINTS", str(tmp_path))
    _save(tmp_path / "posemamba" / "PoseMamba_S.bin")
    _save(tmp_path / "PoseMamba_B.bin", "motionbert_lite")
    rows = {row["save_as"]: row for row in _list()}
    small, base = rows["PoseMamba_S.bin"], rows["PoseMamba_B.bin"]
    assert small["status"] == "here, loads" and small["entries"] == 392 and small["parameters"] == 1_470_211
    assert base["status"].startswith("refused") and "looks like motionbert_lite" in base["status"]
    assert rows["PoseMamba_L.bin"]["status"] == "not here" and "huggingface" in rows["PoseMamba_L.bin"]["source"]
    mpi = rows["motionagformer-b-mpi.bin"]
    assert mpi["dataset"] == "mpi_inf_3dhp" and mpi["parameters"] == 11_718_627 and mpi["under"] == "model"
    assert [row["model"] for row in _list("videopose3d")] == ["videopose3d"]


def test_the_first_use_notes_the_hash_and_a_changed_file_is_refused(tmp_path):
    path, model = _save(tmp_path / "PoseMamba_S.bin"), create_model("posemamba_s")
    load_checkpoint(model, path)
    noted = lockfile.read_lock(tmp_path).files["PoseMamba_S.bin"]
    assert noted.sha256 == lockfile.sha256_of(path) and "huggingface.co/nankingjings" in noted.source
    load_checkpoint(model, path)
    changed = torch.load(path)
    changed["model_pos"]["module.head.1.bias"] += 1
    torch.save(changed, path)
    with pytest.raises(CheckpointError, match=r"PoseMamba_S\.bin: its SHA-256 is .* when first used"):
        load_checkpoint(model, path)
    (tmp_path / "fetched.json").unlink()
    load_checkpoint(model, path)


def test_a_published_hash_is_compared(tmp_path, monkeypatch):
    path, model = _save(tmp_path / "PoseMamba_S.bin"), create_model("posemamba_s")
    card = component("posemamba_s").card
    entry = card.variants["posemamba_s"].checkpoint.model_copy(update={"sha256": "0" * 64})
    variant = card.variants["posemamba_s"].model_copy(update={"checkpoint": entry})
    hashed = card.model_copy(update={"variants": {"posemamba_s": variant}})
    monkeypatch.setattr("posescale.checkpoints.read_card", lambda _: hashed)
    with pytest.raises(CheckpointError, match="the published file's is 000000"):
        load_checkpoint(model, path)


def test_files_of_other_names_are_not_noted(tmp_path):
    load_checkpoint(create_model("posemamba_s"), _save(tmp_path / "mine.bin"))
    assert [p.name for p in tmp_path.iterdir()] == ["mine.bin"]


def test_a_file_that_does_not_fit_is_not_noted(tmp_path):
    path = _save(tmp_path / "PoseMamba_S.bin", "posemamba_b")
    with pytest.raises(CheckpointError, match="It looks like posemamba_b"):
        load_checkpoint(create_model("posemamba_s"), path)
    assert not (tmp_path / "fetched.json").exists()


def test_a_folder_that_cannot_be_written_is_told(tmp_path, monkeypatch, caplog):
    path = _save(tmp_path / "PoseMamba_S.bin")

    def full(*_, **__):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(lockfile, "record", full)
    load_checkpoint(create_model("posemamba_s"), path)
    assert "could not be noted (Read-only file system)" in caplog.text


@pytest.mark.parametrize(
    ("made_for", "given_to", "words"),
    [
        ("motionbert_lite", "posemamba_s", "looks like motionbert_lite"),
        ("motionbert", "motionbert_lite", "looks like motionbert"),
        ("mixste", "motionbert", "looks like mixste"),
        ("poseformerv2", "videopose3d", "looks like poseformerv2"),
        ("videopose3d", "poseformerv2", "looks like videopose3d"),
        ("motionagformer_xs", "motionagformer_s", "looks like motionagformer_xs"),
    ],
)
def test_another_models_file_is_recognised(tmp_path, made_for, given_to, words):
    path = _save(tmp_path / "f.bin", made_for)
    with pytest.raises(CheckpointError, match=f"does not fit .* nothing was loaded. It {words}"):
        load_checkpoint(create_model(given_to), path)


def test_other_lengths_and_unknown_sizes_are_told():
    shapes = shapes_of("motionagformer_b", frames=81)
    assert looks_like(shapes) == "It looks like motionagformer_b built with frames=81"
    assert looks_like(shapes_of("mixste", frames=27)) == "It looks like mixste built with frames=27"
    unknown = shapes_of("mixste", dim=40)
    assert looks_like(unknown).startswith("Its names are those of MixSTE, but no size")
    assert looks_like({"features.0.weight": (64, 3, 7, 7), "fc.bias": (1000,)}) == ""
