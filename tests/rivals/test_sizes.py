"""Parameters and MACs of the official sizes, to the unit; closed forms against counting what runs; the budgets."""

import pytest
import torch

from posescale.cards import component, list_models
from posescale.errors import ConfigError
from posescale.measure.closed_form import closed_form
from posescale.measure.counting import count
from posescale.models import create_model

RIVALS = ("motionagformer", "mixste", "poseformerv2", "videopose3d")
VARIANTS = [name for name in list_models("lifting") if name.startswith(RIVALS)]
BUDGETS = {"03": 0.3e9, "15": 1.5e9, "50": 5e9}


def _meta(name: str, **overrides) -> torch.nn.Module:
    with torch.device("meta"):
        return create_model(name, **overrides).eval()


def _parameters(model: torch.nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def _counted(name: str, frames: int, **overrides) -> int:
    result = count(_meta(name, frames=frames, **overrides), torch.zeros(1, frames, 17, 3, device="meta"))
    assert not result.uncounted
    return result.contractions


# name, constructor arguments, parameters, state_dict entries: counted on the official modules
OFFICIAL = [
    ("motionagformer_xs", {"frames": 27}, 2_241_531, 801),
    ("motionagformer_s", {"frames": 81}, 4_817_119, 1725),
    ("motionagformer_b", {"frames": 243}, 11_723_811, 1065),
    ("motionagformer_b", {"frames": 81}, 11_718_627, 1065),
    ("motionagformer_l", {"frames": 243}, 19_007_111, 1725),
    ("motionagformer_l", {"frames": 81}, 18_998_687, 1725),
    ("mixste", {"frames": 27}, 33_673_219, 204),
    ("mixste", {"frames": 81}, 33_700_867, 204),
    ("mixste", {"frames": 243}, 33_783_811, 204),
    ("mixste_tiny", {"frames": 27}, 137_475, 60),
    ("poseformerv2", {"frames": 27, "kept_frames": 1, "coefficients": 3}, 14_354_649, 139),
    ("poseformerv2", {"frames": 27, "kept_frames": 3, "coefficients": 3}, 14_355_739, 139),
    ("poseformerv2", {"frames": 81, "kept_frames": 9, "coefficients": 9}, 14_362_279, 139),
    ("poseformerv2", {"frames": 243}, 14_381_899, 139),
    ("videopose3d", {"frames": 27}, 8_555_571, 32),
    ("videopose3d", {"frames": 81}, 12_753_971, 44),
    ("videopose3d", {"frames": 243}, 16_952_371, 56),
]


@pytest.mark.parametrize(("name", "arguments", "parameters", "entries"), OFFICIAL)
def test_official_sizes(name, arguments, parameters, entries):
    model = _meta(name, **arguments)
    assert _parameters(model) == parameters
    assert len(model.state_dict()) == entries
    assert closed_form(component(name), arguments["frames"], overrides=arguments)["parameters"] == parameters


# name, T, MACs of one forward pass of the official modules: products and convolutions, attention's included
MACS = [
    ("motionagformer_xs", 27, 1_077_181_200),
    ("motionagformer_xs", 81, 3_652_707_312),
    ("motionagformer_xs", 243, 18_217_842_192),
    ("motionagformer_s", 27, 2_315_419_992),
    ("motionagformer_s", 81, 7_858_781_352),
    ("motionagformer_s", 243, 39_305_737_944),
    ("motionagformer_b", 27, 5_493_400_128),
    ("motionagformer_b", 81, 17_346_322_368),
    ("motionagformer_b", 243, 64_459_727_424),
    ("motionagformer_l", 27, 8_907_423_768),
    ("motionagformer_l", 81, 28_129_719_528),
    ("motionagformer_l", 243, 104_572_894_104),
    ("mixste", 27, 15_568_104_960),
    ("mixste", 81, 47_313_455_616),
    ("mixste", 243, 147_422_633_472),
]


@pytest.mark.parametrize(("name", "frames", "macs"), MACS)
def test_macs_of_the_published_table(name, frames, macs):
    assert closed_form(component(name), frames, overrides={"frames": frames})["contractions"] == macs


@pytest.mark.parametrize(
    ("frames", "kept", "coefficients", "macs"),
    [(27, 1, 3, 38_694_720), (81, 3, 3, 58_987_008), (81, 9, 9, 177_790_080), (243, 27, 27, 541_719_552)],
)
def test_macs_of_poseformerv2(frames, kept, coefficients, macs):
    chosen = {"kept_frames": kept, "coefficients": coefficients, "frames": frames}
    assert closed_form(component("poseformerv2"), frames, overrides=chosen)["contractions"] == macs
    assert _counted("poseformerv2", **chosen) == macs


@pytest.mark.parametrize(
    ("frames", "form", "millions"),
    [
        *((27, "dilated", 86.5), (81, "dilated", 549.4), (243, "dilated", 2608.9)),
        *((27, "strided", 17.8), (81, "strided", 57.4), (243, "strided", 176.3)),
    ],
)
def test_macs_of_videopose3d(frames, form, millions):
    macs = closed_form(component("videopose3d"), frames, overrides={"frames": frames, "form": form})["contractions"]
    assert macs / 1e6 == pytest.approx(millions, abs=0.051)
    assert _counted("videopose3d", frames, form=form) == macs


OPTIONS = [
    ("motionagformer_tiny", {"adjacency": "scaled"}),
    ("motionagformer_tiny", {"dim": 24, "mlp_ratio": 3, "rep": 40, "channels": 2, "depth": 2}),
    ("mixste_tiny", {"joints": 16, "channels": 3, "mlp_ratio": 3, "depth": 1}),
    ("poseformerv2_tiny", {"joints": 15, "channels": 3, "kept_frames": 3, "coefficients": 8, "depth": 3}),
    ("videopose3d_tiny", {"joints": 15, "channels": 3, "form": "strided"}),
]


@pytest.mark.parametrize(("name", "options"), [*((name, {}) for name in VARIANTS), *OPTIONS])
def test_closed_form_equals_what_runs(name, options):
    arguments = options | {"frames": 27}
    formula = closed_form(component(name), 27, batch=2, overrides=arguments)
    model = _meta(name, **arguments)
    result = count(model, torch.zeros(2, 27, arguments.get("joints", 17), 3, device="meta"))
    assert not result.uncounted
    assert (formula["contractions"], formula["parameters"]) == (result.contractions, _parameters(model))


def test_closed_form_refuses_filters_it_does_not_cover():
    with pytest.raises(ConfigError, match="whole number"):
        closed_form(component("videopose3d"), 27, overrides={"frames": 27, "widths": [3, 9]})


@pytest.mark.parametrize("budget", BUDGETS)
@pytest.mark.parametrize("rival", RIVALS)
def test_budget_variants_cost_their_budget(rival, budget):
    name = f"{rival}_budget{budget}"
    assert component(name).parameters["frames"] == 81
    assert closed_form(component(name), 81)["contractions"] == pytest.approx(BUDGETS[budget], rel=0.1)


@pytest.mark.parametrize("rival", RIVALS)
def test_tiny_variants_are_tiny(rival):
    assert 1e5 < _parameters(_meta(f"{rival}_tiny")) < 3e5
