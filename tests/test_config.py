"""The configuration: what is wrong is named, and what is allowed is said."""

from pathlib import Path

import pytest
import yaml

from posescale import config
from posescale.errors import ConfigError

ROOT = Path(__file__).resolve().parent.parent
SHIPPED = sorted((ROOT / "workflows/config").glob("*.yaml"))


def _values():
    study = {"title": "t", "dataset": {"name": "synthetic_motion"}, "models": ["posemamba_tiny"], "frames": [27]}
    return {"name": "x", "title": "t", "studies": {"a": study}}


@pytest.mark.parametrize("path", SHIPPED, ids=lambda p: p.name)
def test_shipped_configurations_are_valid(path):
    assert config.read(path).studies


def _at(values, path, value):
    *parents, key = path
    for parent in parents:
        values = values.setdefault(parent, {})
    values[key] = value


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        (["titel"], "x", ["titel", "did you mean 'title'", "studies"]),
        (["name"], "No Spaces", ["name", "pattern"]),
        (["studies", "a", "frame"], [3], ["studies.a.frame", "did you mean 'frames'"]),
        (["studies", "a", "frames"], [0], ["studies.a.frames.0", "greater than 0"]),
        (["studies", "a", "frames"], "27", ["studies.a.frames", "list"]),
        (["studies", "a", "seeds"], ["one"], ["studies.a.seeds.0", "integer"]),
        (["studies", "a", "models"], ["posmamba_tiny"], ["posmamba_tiny", "posemamba_tiny"]),
        (["studies", "a", "dataset", "sorce"], ".", ["studies.a.dataset.sorce", "source", "settings"]),
        (["studies", "a", "training", "changes"], {"epohs": 1}, ["epohs", "epochs"]),
        (["studies", "a", "training", "changes"], {"lr": "fast"}, ["lr", "number"]),
        (["studies", "a", "latency", "rounds"], 0, ["studies.a.latency.rounds", "greater than 0"]),
        (["studies", "a", "per_model", "posemamba_tiny", "frame"], [9], ["frame", "did you mean 'frames'", "recipe"]),
        (["studies", "a", "per_model", "mixste"], {}, ["per_model names mixste", "does not list"]),
        (["studies", "a", "per_model", "posemamba_tiny"], {"recipe": "paper"}, ["no recipe 'paper'", "h36m"]),
        (["studies", "a", "per_model", "posemamba_tiny"], {"changes": {"flip": 2}}, ["flip"]),
        (["studies", "a", "training", "recipe"], "h36m_finetune", ["posemamba_tiny has no recipe"]),
        (["studies", "a", "dataset", "expected"], {"frame": 1}, ["frame", "did you mean 'frames'", "sequences"]),
        (["machine", "device"], "tpu", ["machine.device", "cuda"]),
        (["studies", "a", "selections"], ["test-best"], ["studies.a.selections.0", "val-best"]),
    ],
)
def test_wrong_keys_and_values_are_refused_in_words(path, value, words):
    values = _values()
    _at(values, path, value)
    with pytest.raises(ConfigError) as caught:
        config.parse(values, "my.yaml")
    assert all(word in str(caught.value) for word in ["my.yaml", *words]), caught.value


def test_a_model_may_differ_from_its_study():
    values = _values()
    study = values["studies"]["a"] | {"models": ["posemamba_tiny", "mixste"], "frames": [27, 81]}
    study["training"] = {"recipe": "small", "changes": {"epochs": 3, "lr": 1e-3}}
    study["per_model"] = {"mixste": {"frames": [9], "recipe": "h36m", "changes": {"epochs": 5}}}
    read = config.parse(values | {"studies": {"a": study}}).studies["a"]
    assert read.cells() == [("posemamba_tiny", 27), ("posemamba_tiny", 81), ("mixste", 9)]
    assert read.all_frames() == [9, 27, 81]
    mixste, mamba = read.recipe("mixste"), read.recipe("posemamba_tiny")
    assert (mixste.epochs, mixste.lr, mixste.objective) == (5, 1e-3, "half_squared_loss")
    assert (mamba.epochs, mamba.lr, mamba.objective) == (3, 1e-3, "loss")


def test_missing_and_broken_files_are_named(tmp_path):
    with pytest.raises(ConfigError, match="nowhere.yaml"):
        config.read(tmp_path / "nowhere.yaml")
    (tmp_path / "broken.yaml").write_text("a: [1,")
    with pytest.raises(ConfigError, match="broken.yaml"):
        config.read(tmp_path / "broken.yaml")
    (tmp_path / "list.yaml").write_text(yaml.dump([1, 2]))
    with pytest.raises(ConfigError, match="list.yaml"):
        config.read(tmp_path / "list.yaml")


def test_data_source_prefers_the_file_over_the_environment(monkeypatch):
    monkeypatch.setenv("POSESCALE_DATA", "/from/environment")
    assert config.data_source(config.Dataset(name="cmu_mocap")) == "/from/environment"
    assert config.data_source(config.Dataset(name="cmu_mocap", source="here")) == "here"
