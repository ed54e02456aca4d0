"""The recipes on the cards: the authors' numbers, for data and clip lengths that they were made for."""

import pytest
from pydantic import ValidationError

from posescale.cards import component, components
from posescale.data import catalog
from posescale.errors import ConfigError
from posescale.metrics.protocols import protocol
from posescale.recipes import Recipe

LIFTING = {c.card.id: name for name, c in components().items() if c.card.task == "lifting"}
BY_CARD = [(name, recipe) for id, name in LIFTING.items() for recipe in component(name).card.recipes]

# model, recipe: optimiser, learning rate, its decay, weight decay, epochs, windows, flip; T -> batch, stride
OFFICIAL = {
    ("posemamba_s", "h36m"): ("adamw", 2e-4, 0.99, 0.01, 120, "official_clips", 0.5, {243: (4, 81)}),
    ("motionbert", "h36m"): ("adamw", 2e-4, 0.99, 0.01, 120, "official_clips", 0.5, {243: (32, 81)}),
    ("motionbert", "h36m_finetune"): ("adamw", 2e-4, 0.99, 0.01, 60, "official_clips", 0.5, {243: (32, 81)}),
    ("motionagformer_b", "h36m"):
        ("adamw", 5e-4, 0.99, 0.01, 60, "official_clips", 0.5, {27: (8, 9), 81: (8, 27), 243: (8, 81)}),
    ("motionagformer_b", "mpi_inf_3dhp"):
        ("adam_amsgrad", 5e-4, 0.99, 0.0, 90, "tail_resampled", 0.5, {27: (16, 9), 81: (16, 9)}),
    ("mixste", "h36m"):
        ("adamw", 4e-5, 0.99, 0.1, 120, "chunks", "doubling", {27: (37, 27), 81: (12, 81), 243: (4, 243)}),
    ("poseformerv2", "h36m"): ("adamw", 1e-4, 0.99, 0.1, 200, "centred_valid", "doubling", {243: (1024, 81)}),
    ("poseformerv2", "mpi_inf_3dhp"):
        ("adam_amsgrad", 7e-4, 0.97, 0.0, 79, "centred_valid", "doubling", {81: (512, 27)}),
    ("videopose3d", "h36m"): ("adam_amsgrad", 1e-3, 0.95, 0.0, 60, "centred_valid", "doubling", {243: (1024, 81)}),
}  # fmt: skip


@pytest.mark.parametrize(("model", "name"), OFFICIAL, ids=lambda part: part)
def test_official_numbers(model, name):
    recipe = component(model).card.recipes[name]
    *plain, by_frames = OFFICIAL[model, name]
    found = [
        recipe.optimizer,
        recipe.lr,
        recipe.lr_decay,
        recipe.weight_decay,
        recipe.epochs,
        recipe.windows,
        recipe.flip,
    ]
    assert found == plain and recipe.origin == "official" and recipe.precision == "32-true" and recipe.ema is None
    for frames, numbers in by_frames.items():
        sized = recipe.at(frames)
        assert (sized.batch, sized.stride) == numbers


def test_official_losses():
    losses = {key: component(key[0]).card.recipes[key[1]].losses.model_dump() for key in OFFICIAL}
    named = {key: {term: weight for term, weight in found.items() if weight} for key, found in losses.items()}
    assert named["posemamba_s", "h36m"] == {"mpjpe": 1, "n_mpjpe": 0.5, "velocity": 20, "weighted_difference": 0.5}
    assert named["mixste", "h36m"] == {"weighted_mpjpe": 1, "weighted_difference": 0.5, "velocity": 2}
    line = {"mpjpe": 1, "n_mpjpe": 0.5, "velocity": 20}
    for key in OFFICIAL:
        if key[0].startswith("motion"):
            assert named[key] == line
        elif key[0] in ("poseformerv2", "videopose3d"):
            assert named[key] == {"mpjpe": 1}


def test_peculiarities():
    assert component("mixste").card.recipes["h36m"].objective == "half_squared_loss"
    assert component("videopose3d").card.recipes["h36m"].norm_momentum == (0.1, 0.001)
    assert component("motionbert").card.recipes["h36m_finetune"].start == "pretrained"
    agformer = component("motionagformer_l").card.recipes["h36m"]
    assert agformer.batch * agformer.accumulate == 16
    for model in ("posemamba_l", "mixste"):
        recipe = component(model).card.recipes["mpi_inf_3dhp"]
        assert recipe.origin == "inferred" and "unknown" in recipe.note


@pytest.mark.parametrize(("model", "name"), BY_CARD, ids=lambda part: part)
def test_every_recipe_names_a_protocol_of_its_dataset_or_none(model, name):
    card = component(model).card
    recipe = card.recipes[name]
    if name == "small":
        assert recipe.origin == "ours" and recipe.protocol is None
        return
    rules = protocol(recipe.protocol)
    assert name.startswith(rules.dataset) and rules.dataset in catalog.datasets() + ["mpi_inf_3dhp"]
    assert recipe.protocol == card.protocols[rules.dataset]


def test_batches_by_frames():
    assert Recipe(batch_frames=1024).at(1024).batch == 1
    with pytest.raises(ConfigError, match="1024 frames holds no clip of 1025"):
        Recipe(batch_frames=1024).at(1025)
    assert Recipe(windows="chunks", stride=5).at(27).stride == 5 and Recipe().at(2).stride == 1


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"objective": "half_squared_loss", "accumulate": 2}, "accumulate"), ({"flip": 1.5}, "flip"),
        ({"flip": "tripling"}, "doubling"), ({"windows": "random"}, "windows"), ({"norm_momentum": [0.1]}, "norm_mom"),
    ],
)  # fmt: skip
def test_wrong_values_are_refused(changes, words):
    with pytest.raises(ConfigError, match=words):
        Recipe().override(**changes)
    with pytest.raises(ValidationError):
        Recipe(**changes)
