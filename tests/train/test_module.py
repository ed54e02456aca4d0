"""What one step does to the weights, against its formula written out."""

import pytest
import torch
from swing import RECIPE
from torch import nn

from posescale.data.prepared import PreparedData
from posescale.data.windows import ClipWindows
from posescale.models import create_model
from posescale.recipes import Recipe
from posescale.train import losses
from posescale.train.fit import fit
from posescale.train.module import Training, norm_momentum, set_norm_momentum
from posescale.train.sampler import EpochBatches, MirroredWindows

PLAIN = {"norm": False, "drop": 0.0}
ONE = RECIPE.override(epochs=1, steps_per_epoch=1, precision="64-true", weight_decay=0.0, optimizer="adam")


def first_step(data_dir, recipe):
    """The toy before training, and the loss of the first batch, both made by hand."""
    torch.manual_seed(0)
    model = create_model("toy", frames=9, **PLAIN).double()
    data = PreparedData(data_dir)
    windows = MirroredWindows(ClipWindows(data, "train", 9, 3), data.index.left, data.index.right)
    (batch,) = EpochBatches(len(windows) // 2, recipe.batch, 0, steps=1, flip=recipe.flip)
    inputs, targets = (part.double() for part in windows.__getitems__(batch))
    return model, losses.total(model(inputs), targets, recipe.losses)


def trained(data_dir, out, recipe):
    fit("toy", data_dir, 9, 0, recipe, out, overrides=PLAIN)
    return torch.load(out / "weights-last.pt")["model_pos"]


@pytest.mark.parametrize("objective", ["loss", "half_squared_loss"])
def test_the_squared_objective_multiplies_the_gradient_by_the_loss(data_dir, tmp_path, objective):
    """Adam's first step hides the size of its gradient g + c w, but not the balance of g and the weight decay c."""
    recipe = ONE.override(objective=objective, weight_decay=0.3)
    model, loss = first_step(data_dir, recipe)
    loss.backward()
    factor = loss.item() if objective == "half_squared_loss" else 1.0
    weights = trained(data_dir, tmp_path, recipe)
    for name, p in model.named_parameters():
        g = factor * p.grad + 0.3 * p.detach()
        torch.testing.assert_close(weights[name], p.detach() - recipe.lr * g / (g.abs() + 1e-8), rtol=1e-9, atol=1e-12)


def test_the_squared_objective_is_half_the_squared_loss(data_dir):
    model, loss = first_step(data_dir, ONE)
    parameters = list(model.parameters())
    squared = torch.autograd.grad(loss.square() / 2, parameters, retain_graph=True)
    plain = torch.autograd.grad(loss, parameters)
    for a, b in zip(squared, plain, strict=True):
        torch.testing.assert_close(a, loss.detach() * b)


@pytest.mark.parametrize(("name", "kind", "amsgrad"), [
    ("adamw", torch.optim.AdamW, False), ("adam", torch.optim.Adam, False), ("adam_amsgrad", torch.optim.Adam, True),
])  # fmt: skip
def test_optimisers_by_name(name, kind, amsgrad):
    training = Training(nn.Linear(1, 1), Recipe(optimizer=name, lr=0.5, weight_decay=0.25), None, 0, None)
    optimizer = training.configure_optimizers()
    assert type(optimizer) is kind
    assert (optimizer.defaults["amsgrad"], optimizer.defaults["lr"], optimizer.defaults["weight_decay"]) == (
        amsgrad,
        0.5,
        0.25,
    )


def test_momentum_falls_exponentially_over_the_epochs():
    """VideoPose3D: 0.1 exp(-e / E ln(0.1 / 0.001)) after e of E epochs."""
    recipe = Recipe(norm_momentum=(0.1, 0.001), epochs=60)
    for epoch in (0, 1, 30, 59):
        expected = 0.1 * torch.exp(torch.tensor(-epoch / 60 * 4.605170185988092, dtype=torch.float64)).item()
        assert norm_momentum(recipe, epoch) == pytest.approx(expected, rel=1e-12)
    assert norm_momentum(recipe, 0) == 0.1 and norm_momentum(recipe, 30) == pytest.approx(0.01)
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2), nn.Sequential(nn.BatchNorm1d(3)))
    set_norm_momentum(model, 0.02)
    assert [m.momentum for m in model.modules() if isinstance(m, nn.BatchNorm1d)] == [0.02, 0.02]


def test_momentum_reaches_the_statistics(data_dir, tmp_path):
    """With momentum 1 the running mean is the last batch's; with 1e-9 it stays where it began."""
    fit("toy", data_dir, 9, 0, ONE.override(norm_momentum=(1e-9, 1e-9)), tmp_path / "still")
    fit("toy", data_dir, 9, 0, ONE.override(norm_momentum=(1.0, 1.0)), tmp_path / "last")
    still, last = (
        torch.load(tmp_path / n / "weights-last.pt")["model_pos"]["norm.running_mean"] for n in ("still", "last")
    )
    assert still.abs().max() < 1e-8 < 1e-3 < last.abs().max()
