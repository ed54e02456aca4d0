"""What every component promises, checked for every variant that a card declares."""

import ast
import copy
import inspect
import json
import subprocess
import sys
from functools import cache
from typing import Any

import pytest
import torch

from posescale.cards import Component, component, components, list_models
from posescale.checkpoints import load_checkpoint, read_weights_meta, save_weights
from posescale.errors import PosescaleError
from posescale.measure.closed_form import closed_form
from posescale.models import create_model, network_module

REFUSALS = (ValueError, PosescaleError)
LEFT, RIGHT = [4, 5, 6, 11, 12, 13], [1, 2, 3, 14, 15, 16]  # Human3.6M
# Parameters that an official network owns but never uses: component id -> beginnings of their names
UNUSED: dict[str, tuple[str, ...]] = {}


def _arguments(found: Component) -> dict[str, Any]:
    """Constructor arguments: the signature's defaults, then the card's."""
    build = getattr(network_module(found.folder), found.card.network)
    defaults = {k: p.default for k, p in inspect.signature(build).parameters.items() if p.default is not p.empty}
    return defaults | found.parameters


def _on_meta(name: str, **overrides: Any) -> torch.nn.Module:
    with torch.device("meta"):
        return create_model(name, **overrides)


@cache
def _count(name: str, **overrides: int) -> int:
    return sum(p.numel() for p in _on_meta(name, **overrides).parameters())


@cache
def _smallest() -> list[str]:
    """The smallest variant of each component."""
    by_component: dict[str, list[str]] = {}
    for name in list_models():
        by_component.setdefault(component(name).card.id, []).append(name)
    return [min(names, key=_count) for names in by_component.values()]


LIFTING = [name for name in _smallest() if component(name).card.task == "lifting"]


def _frames(name: str) -> int:
    return min(_arguments(component(name))["frames"], 27)


@torch.no_grad()
def _built(name: str, seed: int = 0, **overrides: Any) -> torch.nn.Module:
    """A model for short clips, in evaluation mode, its weights away from special starts (zero heads, zero tables)."""
    torch.manual_seed(seed)
    model = create_model(name, **{"frames": _frames(name), **overrides}).eval()
    for parameter in model.parameters():
        parameter.add_(0.05 * torch.randn_like(parameter))
    return model


def _clip(name: str, batch: int = 2, frames: int | None = None, seed: int = 0) -> torch.Tensor:
    """A random input of the variant's task."""
    found = component(name)
    arguments, frames = _arguments(found), frames or _frames(name)
    generator = torch.Generator().manual_seed(seed)
    if found.card.task == "video":
        return torch.randn(batch, frames, 3, arguments["height"], arguments["width"], generator=generator)
    clip = torch.rand(batch, frames, 17, 3, generator=generator) * 2 - 1
    clip[..., 2] = clip[..., 2].abs()  # confidence
    return clip


def _expected_shape(name: str, x: torch.Tensor, y: torch.Tensor) -> tuple[int, ...]:
    if component(name).card.task == "video":
        return (x.shape[0], y.shape[1], x.shape[3] // 4, x.shape[4] // 4)
    return (x.shape[0], 1 if component(name).card.output == "seq2frame" else x.shape[1], 17, 3)


@pytest.mark.parametrize("name", list_models())
class TestEveryVariant:
    def test_state_dict_is_the_parameters_and_declared_buffers(self, name):
        model = _on_meta(name)
        buffers = {key for key, _ in model.named_buffers()} & set(model.state_dict())
        weights = {key: entry for key, entry in model.state_dict().items() if key not in buffers}
        assert set(weights) == {key for key, _ in model.named_parameters()}
        assert sum(entry.numel() for entry in weights.values()) == _count(name) > 0

    @pytest.mark.parametrize("frames", [None, 27])
    def test_closed_form_counts_the_parameters(self, name, frames):
        found = component(name)
        assert found.card.cost is not None and found.card.cost.parameters, "the card needs a formula for parameters"
        overrides = {} if frames is None or found.card.task == "video" else {"frames": frames}
        arguments = _arguments(found) | overrides
        formula = closed_form(found, arguments["frames"], overrides=arguments)
        assert formula["parameters"] == _count(name, **overrides)

    def test_an_unknown_argument_is_refused(self, name):
        with pytest.raises(PosescaleError, match="no_such_argument"):
            create_model(name, no_such_argument=1)


@pytest.mark.parametrize("name", [name for name in list_models() if "_budget" in name])
def test_a_budget_variant_keeps_to_its_budget(name):
    """`_budget15` means 1.5 GMAC per clip of 81 frames, two FLOPs of a scan counted as one MAC."""
    cost = closed_form(component(name), 81)
    budget = int(name[-2:]) * 1e8
    assert abs((cost["contractions"] + cost["scan"] / 2) / budget - 1) < 0.05


@pytest.mark.parametrize("name", _smallest())
class TestSmallestVariant:
    @pytest.mark.parametrize(("batch", "frames"), [(1, 1), (2, 9), (2, 27)])
    def test_forward_and_backward(self, name, batch, frames):
        frames = min(frames, _arguments(component(name))["frames"])
        try:
            model = _built(name, frames=frames).train(batch > 1)
        except REFUSALS as refusal:
            assert frames != _frames(name) and str(frames) in str(refusal), refusal
            pytest.skip(f"{name} cannot be built for {frames} frames: {refusal}")
        if component(name).card.output == "seq2frame":
            batch = max(batch, 2)  # a batch norm in training has no variance of one pose alone
        x = _clip(name, batch, frames).requires_grad_()
        y = model(x)
        assert y.shape == _expected_shape(name, x, y) and y.dtype == torch.float32
        assert torch.isfinite(y).all()
        y.square().sum().backward()
        unused = UNUSED.get(component(name).card.id, ())
        for key, parameter in model.named_parameters():
            if not unused or not key.startswith(unused):
                assert parameter.grad is not None and torch.isfinite(parameter.grad).all(), key
        assert torch.isfinite(x.grad).all() and x.grad[..., :2].abs().sum() > 0

    @torch.no_grad()
    def test_same_seed_same_output(self, name):
        x = _clip(name, 1)
        state = torch.get_rng_state()
        first = _built(name, seed=3)(x)
        again = _built(name, seed=3)
        before = torch.get_rng_state()
        assert torch.equal(first, again(x)) and torch.equal(first, again(x))
        assert torch.equal(before, torch.get_rng_state()), "evaluation draws random numbers"
        assert not torch.equal(first, _built(name, seed=4)(x))
        torch.set_rng_state(state)

    @torch.no_grad()
    def test_clips_of_a_batch_do_not_see_each_other(self, name):
        model, x = _built(name).double(), _clip(name, 3).double()
        together = model(x)
        alone = torch.cat([model(clip[None]) for clip in x])
        torch.testing.assert_close(together, alone, rtol=1e-9, atol=1e-9)
        assert (together[0] - together[1]).abs().max() > 1e-6

    @torch.no_grad()
    def test_checkpoint_round_trip_and_copy(self, name, tmp_path):
        model, other, x = _built(name, seed=1), _built(name, seed=2), _clip(name, 1)
        save_weights(tmp_path / "weights.pt", model, {"variant": name, "epoch": 3})
        load_checkpoint(other, tmp_path / "weights.pt")
        assert read_weights_meta(tmp_path / "weights.pt") == {"variant": name, "epoch": 3}
        assert torch.equal(model(x), other(x))
        assert torch.equal(model(x), copy.deepcopy(model)(x))

    def test_wrong_inputs_are_refused_in_words(self, name):
        model, x = _built(name), _clip(name, 1)
        channel_axis = 2 if component(name).card.task == "video" else 3
        wrong = {"no batch": x[0], "channels": torch.cat([x, x], channel_axis), "no frame": x[:, :0]}
        if component(name).card.task == "lifting":
            wrong |= {"few joints": x[:, :, :16], "many joints": torch.cat([x, x[:, :, :1]], 2), "channel": x[..., :1]}
        for what, clip in wrong.items():
            with pytest.raises(REFUSALS) as refusal:
                model(clip)
            words = str(refusal.value)
            assert "found" in words or str(tuple(clip.shape)) in words, (what, words)
            assert len(words) > 30 and str(clip.shape[-1]) in words, (what, words)

    @torch.no_grad()
    def test_a_longer_clip_is_refused_or_gives_one_pose_per_window(self, name):
        frames = _frames(name)
        model, x = _built(name, frames=frames), _clip(name, 1, frames + 2)
        if component(name).card.output == "seq2frame":
            try:
                y = model(x)
            except REFUSALS as refusal:
                assert str(frames) in str(refusal) and str(frames + 2) in str(refusal)
            else:
                assert y.shape == (1, 3, 17, 3)
            return
        with pytest.raises(REFUSALS) as refusal:
            model(x)
        assert str(frames) in str(refusal.value) and str(frames + 2) in str(refusal.value)

    @torch.no_grad()
    def test_compiled_model_gives_the_same_numbers(self, name):
        torch.compiler.reset()
        model, x = _built(name), _clip(name, 1)
        expected = model(x)
        compiled = torch.compile(model, backend="aot_eager")
        torch.testing.assert_close(compiled(x), expected, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(model(x), expected, rtol=0, atol=0)
        torch.compiler.reset()


@torch.no_grad()
@pytest.mark.parametrize("name", LIFTING)
def test_confidence_is_read_only_where_the_card_says_so(name):
    model, x = _built(name), _clip(name, 1)
    unsure = x * torch.tensor([1.0, 1.0, 0.5])
    if component(name).card.confidence:
        assert not torch.equal(model(x), model(unsure))
        with pytest.raises(REFUSALS, match="confidence"):
            model(x[..., :2])
    else:
        assert torch.equal(model(x), model(unsure))
        assert torch.equal(model(x), model(x[..., :2]))


@torch.no_grad()
@pytest.mark.parametrize("name", LIFTING)
def test_mirror_gap_is_reported(name, record_property):
    """How far f(mirror(x)) is from mirror(f(x)) at random weights, as a fraction; a fact about a model, not a rule."""
    model, x = _built(name), _clip(name, 2)
    y = model(x)
    gap = (model(_mirror(x)) - _mirror(y)).norm() / y.norm()
    record_property("mirror_gap", gap.item())
    assert torch.isfinite(gap)


def _mirror(poses: torch.Tensor) -> torch.Tensor:
    mirrored = poses.clone()
    mirrored[..., 0] *= -1
    mirrored[..., LEFT + RIGHT, :] = mirrored[..., RIGHT + LEFT, :]
    return mirrored


def test_importing_and_building_leaves_the_process_alone():
    """In a fresh process: no torch flag, generator or environment variable changes."""
    code = f"""
import hashlib, json, os, random
import numpy, torch
from posescale.cards import component
from posescale.models import create_model, network_module

def state(rng):
    flags = {{
        "environment": dict(os.environ), "threads": torch.get_num_threads(), "dtype": str(torch.get_default_dtype()),
        "deterministic": torch.are_deterministic_algorithms_enabled(), "grad": torch.is_grad_enabled(),
        "matmul": torch.get_float32_matmul_precision(), "tf32": torch.backends.cuda.matmul.allow_tf32,
        "cudnn": [torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic, torch.backends.cudnn.allow_tf32],
        "device": str(torch.get_default_device()), "python": repr(random.getstate()),
        "numpy": repr(numpy.random.get_state()), "flush": torch.get_deterministic_debug_mode(),
    }}
    if rng:
        flags["torch"] = hashlib.sha256(torch.get_rng_state().numpy().tobytes()).hexdigest()
    return json.dumps(flags, sort_keys=True)

names = {_smallest()!r}
before = state(True)
for name in names:
    network_module(component(name).folder)
assert state(True) == before, "an import changed the process"
before = state(False)
for name in names:
    create_model(name)
assert state(False) == before, "building changed the process"
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("found", {c.folder: c for c in components().values()}.values(), ids=lambda c: c.card.id)
def test_component_folder(found):
    assert (found.folder / "README.md").read_text().strip()
    allowed = set(sys.stdlib_module_names) | {"torch", "numpy"}
    for path in found.folder.rglob("*.py"):
        for module in _imports(ast.parse(path.read_text())):
            inside = module.startswith(
                ("posescale.ops", "posescale.layers", "posescale.errors", f"{found.folder.name}.")
            )
            assert inside or module.split(".")[0] in allowed, f"{path} imports {module}"


def _imports(tree: ast.AST) -> list[str]:
    names = [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
    sources = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.level == 0]
    return names + [node.module for node in sources]


def test_models_verb_lists_every_variant(capsys):
    from posescale.commands.models import models

    models(task=None, as_json=True)
    rows = json.loads(capsys.readouterr().out)
    assert [row["model"] for row in rows] == list_models()
    assert all(row["parameters"] == _count(row["model"]) for row in rows)
    assert all(isinstance(value, (str, int, float, bool, type(None))) for row in rows for value in row.values())
    models(task="control", as_json=False)
    assert "ground_truth" in capsys.readouterr().out
    with pytest.raises(PosescaleError, match="lifing"):
        models(task="lifing", as_json=True)
