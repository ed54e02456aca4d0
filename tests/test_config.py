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


# Video, names of a study's own, measuring alone


NAMES = ["vitpose_tiny", "glsmamba_tiny", "unified"]


def _video(**changes):
    study = {
        "title": "t",
        "dataset": {"name": "synthetic_video"},
        "models": NAMES,
        "frames": [5],
        "size": [96, 64],
        "conditions": ["as_is", "shuffled"],
        "per_model": {
            "vitpose_tiny": {"frames": [1]},
            "glsmamba_tiny": {"start_from": "vitpose_tiny"},
            "unified": {"model": "glsmamba_tiny", "overrides": {"paths": 2, "merging": "sum"}},
        },
    }
    return {"name": "x", "title": "t", "studies": {"v": study | changes}}


def test_a_video_study_says_what_is_trained_scored_and_measured():
    study = config.parse(_video()).studies["v"]
    assert study.task == "video"
    assert study.cells() == [("vitpose_tiny", 1), ("glsmamba_tiny", 5), ("unified", 5)]
    assert (study.variant("unified"), study.label("unified"), study.label("vitpose_tiny")) == (
        "glsmamba_tiny", "unified", ""
    )  # fmt: skip
    assert study.conditions_of(5) == ["as_is", "shuffled"] and study.conditions_of(1) == ["as_is"]
    assert ("interpolate_visible", 5) in study.controls_scored() and ("mean_pose", 1) not in study.controls_scored()
    assert study.recipe("glsmamba_tiny").start == "pretrained" and study.recipe("vitpose_tiny").start != "pretrained"


def test_clips_are_measured_at_every_length_and_at_every_size():
    sizes = {"frames": [1, 5], "sizes": [[128, 96], [96, 64]]}
    study = config.parse(_video(cost=sizes)).studies["v"]
    assert study.shapes(study.cost) == ["1x96x64", "5x96x64", "5x128x96"]
    assert study.shapes(study.latency) == [f"{t}x96x64" for t in (1, 3, 5, 9, 17)]
    lifting = config.parse(_values()).studies["a"]
    assert lifting.shapes(lifting.cost) == ["9", "27", "81", "243"]


def test_a_study_may_measure_and_train_nothing():
    study = {"title": "t", "frames": [5], "latency": {"models": ["glsmamba_tiny"], "frames": [], "sizes": [[64, 48]]}}
    read = config.parse({"name": "x", "title": "t", "studies": {"a": study}}).studies["a"]
    assert (read.task, read.cells(), read.controls_scored()) == ("video", [], [])
    assert read.shapes(read.latency) == ["5x64x48"]


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        (["models"], [*NAMES, "posemamba_tiny"], ["posemamba_tiny is a lifting model", "synthetic_video"]),
        (["models"], [*NAMES, "mean_pose"], ["mean_pose is a control", "controls"]),
        (["dataset", "name"], "synthetic_vidoe", ["synthetic_vidoe", "synthetic_video"]),
        (["conditions"], ["frozen"], ["conditions", "own_frame"]),
        (["size"], [96], ["size"]),
        (["size"], [96, 0], ["size", "greater than 0"]),
        (["per_model", "unified", "model"], "glsmamba_tny", ["glsmamba_tny", "glsmamba_tiny"]),
        (["per_model", "unified", "override"], {}, ["override", "did you mean 'overrides'", "start_from"]),
        (["per_model", "unified", "start_from"], "vitpose_b", ["vitpose_b", "models does not list"]),
        (["per_model", "unified", "start_from"], "unified", ["unified", "another one"]),
        (["per_model", "vitpose_tiny", "start_from"], "glsmamba_tiny", ["starts from itself"]),
        (["per_model", "vitpose_tiny", "frames"], [1, 3], ["vitpose_tiny", "several clip lengths"]),
        (["per_model", "unified", "start"], "a.pt", ["start and start_from exclude"]),
        (["per_model", "Unified rows"], {}, ["Unified rows"]),
        (["cost", "size"], [[1, 2]], ["cost.size", "did you mean 'sizes'"]),
        (["latency", "memory_limits"], 3, ["memory_limits", "did you mean 'memory_limit'"]),
        (["latency", "models"], ["posemamba_tiny"], ["posemamba_tiny is a lifting model"]),
        (["dataset"], None, ["give dataset and frames"]),
        (["frames"], [], ["give dataset and frames"]),
        (["models"], [], ["nothing to do"]),
    ],
)
def test_what_does_not_fit_a_video_study_is_refused_in_words(path, value, words):
    values = _video()
    values["studies"]["v"]["per_model"]["unified"]["start_from"] = "vitpose_tiny"
    _at(values["studies"]["v"], path, value)
    with pytest.raises(ConfigError) as caught:
        config.parse(values, "my.yaml")
    assert all(word in str(caught.value) for word in ["my.yaml", *words]), caught.value


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"size": [96, 64]}, "size: for video alone"),
        ({"conditions": ["as_is", "own_frame"]}, "conditions: for video alone"),
        ({"cost": {"sizes": [[96, 64]]}}, "cost.sizes: for video alone"),
        ({"latency": {"sizes": [[96, 64]]}}, "latency.sizes: for video alone"),
    ],
)
def test_what_is_for_video_is_refused_in_lifting(change, words):
    values = _values()
    values["studies"]["a"] |= change
    with pytest.raises(ConfigError, match=words):
        config.parse(values)


def test_a_study_without_anything_to_do_is_refused():
    with pytest.raises(ConfigError, match="nothing to do"):
        config.parse({"name": "x", "title": "t", "studies": {"a": {"title": "t"}}})
