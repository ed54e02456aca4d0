import functools
import json

import pytest
import torch
from torch import nn
from typer.testing import CliRunner

from posescale import records
from posescale.cards import component, list_models
from posescale.errors import UnavailableError
from posescale.measure import old_rulers
from posescale.measure.closed_form import closed_form, quadratic_overtakes
from posescale.measure.cost import cost, reason_for_difference
from posescale.measure.counting import count
from posescale.measure.parameters import count_parameters
from posescale.measure.subject import Subject


def figures(record):
    return {(v.name, v.convention): v.value for v in record.values}


def macs(record):
    return {v.convention: v.value for v in record.values if v.name == "macs"}


def test_a_toy_by_hand(toys):
    record = cost("toy_mlp", 27, batch=2)
    tokens, found = 2 * 27 * 17, figures(record)
    assert (record.status, record.reason) == ("ok", "")
    assert record.options["routes"] == ["dispatch", "closed form"]
    assert record.options["counted_on"] == "meta"
    assert found["macs", "contractions"] == found["macs", "contractions+scan"] == tokens * 48
    assert found["flops", "contractions"] == 2 * tokens * 48
    assert found["flops", "total"] == 2 * tokens * 48 + tokens * 8 * (1 + 7)  # position table, norm
    assert found["macs", "thop"] == tokens * (48 + 4 * 8)
    assert found["macs", "fvcore"] == tokens * (48 + 5 * 8)
    assert found["parameters", "unique"] == 32 + 136 + 16 + 27
    assert (found["parameters", "thop"], found["parameters_bare", "unique"]) == (75, 136)
    assert found["bytes", "compulsory"] == 4 * (2 * tokens * 3 + 211)
    assert found["scan_flops", "9N+1"] == 0
    assert "136 parameters" in reason_for_difference(record)


def test_counting_leaves_torch_as_it_was(toys):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    cost("toy_mlp", 9)
    assert torch.equal(torch.rand(3), expected)
    assert torch.is_grad_enabled()


@pytest.mark.parametrize("attention", ["fused", "naive"])
def test_attention_is_counted_either_way(toys, attention):
    record = cost("toy_attending", 27, attention=attention)
    assert record.status == "ok", record.reason
    n = 27 * 17
    assert macs(record)["contractions"] == n * (48 + 4 * 64) + 2 * 17 * 27**2 * 8
    assert macs(record)["thop"] == n * (48 + 4 * 64 + 4 * 8)
    assert "products of tensors" in reason_for_difference(record)
    assert quadratic_overtakes(component("toy_attending"), {"dim": 8}) == pytest.approx((48 + 256) / 16)


def test_routes_that_disagree_are_an_error_with_both_numbers(toys):
    record = cost("toy_wrong", 9)
    assert record.status == "crashed"
    assert record.values == []
    n = 9 * 17
    by_dispatch, by_card = n * (72 + 4 * 144) + 2 * 17 * 81 * 12, n * (72 + 4 * 12 * 8) + 2 * 17 * 12 * 81
    assert f"{by_dispatch:,}" in record.reason and f"{by_card:,}" in record.reason


@pytest.mark.parametrize(
    ("name", "operator"), [("toy_uncounted", "_cdist_forward"), ("toy_numpy", "torch.Tensor.numpy")]
)
def test_an_operator_nothing_prices_voids_the_count(toys, name, operator):
    record = cost(name, 9)
    assert record.status == "uncounted"
    assert operator in record.reason
    assert {v.name for v in record.values} == {"parameters", "parameters_trainable", "parameters_frozen",
                                               "parameters_bare", "buffers"}  # fmt: skip


def test_refusals_and_bugs_become_records(toys):
    refused = cost("toy_refuses", 27)
    assert (refused.status, refused.reason) == ("unsupported", "Toy takes at most 9 frames, found 27")
    assert cost("toy_refuses", 9).status == "ok"
    failed = cost("toy_raises", 9)
    assert (failed.status, failed.reason) == ("crashed", "RuntimeError: a bug of its own")
    unknown = cost("toy_mlp", 9, width=3)
    assert unknown.status == "unsupported" and "width" in unknown.reason


def test_an_unknown_model_is_the_callers_error(toys):
    with pytest.raises(UnavailableError, match="toy_mpl"):
        cost("toy_mpl", 9)


class Leaves(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1)
        self.depthwise = nn.Conv2d(8, 8, 3, stride=2, groups=8, bias=False)
        self.batch = nn.BatchNorm2d(8)
        self.layer = nn.LayerNorm(8)
        self.linear = nn.Linear(8, 5)
        self.parts = nn.Sequential(nn.GELU(), nn.Dropout(), nn.Softmax(dim=-1))
        self.own = nn.Parameter(torch.zeros(5, 5))

    def forward(self, x):
        x = self.depthwise(self.batch(self.conv(x)))
        return self.parts(self.linear(self.layer(x.movedim(1, -1)))) @ self.own


def test_thop_on_meta_is_thop_on_real_tensors():
    model, x = Leaves(), torch.zeros(2, 3, 9, 9)
    real, light = old_rulers.thop(model, x), old_rulers.thop(model.to("meta"), x.to("meta"))
    assert real == light
    conv, depthwise, norms = 2 * 81 * 8 * 27, 2 * 16 * 8 * 9, 4 * (2 * 81 * 8 + 2 * 16 * 8)
    assert real.macs == conv + depthwise + norms + 2 * 16 * 8 * 5 + 2 * 16 * (5 + 4 + 5)
    assert real.parameters == (27 * 8 + 8) + 72 + 16 + 16 + 45
    assert "total_ops" not in dict(model.named_buffers())


# Published and re-derived values: PoseMamba's Table 6 counts by thop, our contractions, and with the scan.
POSEMAMBA = [
    ("posemamba_s", 27, 398_602_944, 574_741_440, 917_853_120),
    ("posemamba_s", 81, 1_195_808_832, 1_724_224_320, 2_753_559_360),
    ("posemamba_s", 243, 3_587_426_496, 5_172_672_960, 8_260_678_080),
    ("posemamba_b", 243, 13_943_083_392, 17_790_399_360, 23_966_409_600),
    ("posemamba_l", 243, 27_881_407_872, 35_578_154_880, 47_930_175_360),
]


@pytest.fixture(scope="module")
def counted():
    """Records without fvcore, which would run large models for real; each counted once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("posescale.measure.cost.FVCORE_LIMIT", 0)
        yield functools.cache(cost)


@pytest.mark.parametrize(("name", "frames", "thop", "contractions", "with_scan"), POSEMAMBA)
def test_posemamba_by_every_convention(name, frames, thop, contractions, with_scan, counted):
    record = counted(name, frames)
    assert record.status == "ok", record.reason
    assert record.options["routes"] == ["dispatch", "instrumented", "closed form"]
    assert macs(record) == {"contractions": contractions, "contractions+scan": with_scan, "thop": thop}
    assert "real" in record.options["fvcore"]


@pytest.mark.parametrize(
    ("name", "true", "thop"),
    [("posemamba_s", 1_470_211, 859_651), ("posemamba_b", 4_742_659, 3_357_699), ("posemamba_l", 9_450_499, 6_713_859)],
)
def test_posemamba_parameters(name, true, thop, counted):
    found = figures(counted(name, 243))
    assert (found["parameters", "unique"], found["parameters", "thop"]) == (true, thop)
    assert found["parameters_bare", "unique"] == true - thop


@pytest.mark.parametrize(
    ("name", "frames", "contractions"),
    [
        ("motionbert_lite", 81, 22_539_969_792),
        ("motionbert_lite", 243, 71_046_326_016),
        ("motionbert", 243, 185_402_981_376),
        ("mixste", 27, 15_568_104_960),
        ("mixste", 243, 147_422_633_472),
        ("motionbert_lite", 27, 7_386_418_944),
    ],
)
def test_transformers(name, frames, contractions, counted):
    record = counted(name, frames)
    assert record.status == "ok", record.reason
    assert macs(record)["contractions"] == contractions


@pytest.mark.parametrize(
    ("name", "published"),
    [("motionbert", 174.8e9), ("mixste", 139.0e9), ("motionagformer_b", 48.3e9), ("motionagformer_l", 78.3e9)],
)
def test_published_macs_are_thops(name, published):
    subject = Subject(name, 243)
    found = old_rulers.thop(subject.build().to("meta"), subject.draw(0).to("meta"))
    assert found.macs == pytest.approx(published, abs=0.06e9)


@pytest.mark.parametrize(("name", "frames"), [("motionbert_lite", 3116), ("motionbert", 4140), ("mixste", 4113)])
def test_where_the_quadratic_part_overtakes(name, frames):
    arguments = Subject(name, 243).arguments()
    assert quadratic_overtakes(component(name), arguments) == pytest.approx(frames, abs=1)


@pytest.mark.parametrize("name", list_models("lifting"))
def test_every_lifting_model_has_a_closed_form_that_agrees(name):
    found = component(name)
    assert found.card.cost is not None
    subject = Subject(name, found.parameters.get("frames", 27))
    model = subject.build().to("meta")
    result = count(model, subject.draw(0).to("meta"))
    assert dict(result.uncounted) == {}
    expected = closed_form(found, subject.frames, 1, subject.arguments())
    ours = {"contractions": result.contractions, "scan": result.scan, "parameters": count_parameters(model).total}
    assert ours == ours | expected


def invoke(*arguments):
    import typer

    from posescale.commands.cost import cost as verb

    app = typer.Typer()
    app.command()(verb)
    return CliRunner().invoke(app, list(arguments))


def test_command_line(toys, tmp_path):
    path = tmp_path / "cost.jsonl"
    done = invoke("toy_mlp,toy_refuses", "--frames", "9,27", "--record", str(path), "--json", "--study", "s")
    assert done.exit_code == 0, done.output
    rows = json.loads(done.stdout)
    row = next(r for r in rows if (r["model"], r["frames"], r["quantity"], r["convention"]) ==
               ("toy_mlp", 27, "macs", "contractions"))  # fmt: skip
    assert (row["value"], row["unit"], row["status"]) == (27 * 17 * 48, "MAC", "ok")
    refused = [r for r in rows if (r["model"], r["frames"]) == ("toy_refuses", 27)]
    assert [(r["quantity"], r["value"], r["status"]) for r in refused] == [(None, None, "unsupported")]
    assert [(r.variant, r.frames, r.study) for r in records.read(path)] == [
        ("toy_mlp", 9, "s"), ("toy_mlp", 27, "s"), ("toy_refuses", 9, "s"), ("toy_refuses", 27, "s"),
    ]  # fmt: skip


def test_command_line_tells_why(toys):
    done = invoke("toy_attending", "--frames", "9", "--set", "attention=naive")
    assert done.exit_code == 0, done.output
    assert "thop does not see" in done.output


@pytest.mark.parametrize("frames", ["0", "x", "9,", "-3", "2.5"])
def test_command_line_refuses_lengths(toys, frames):
    done = invoke("toy_mlp", "--frames", frames)
    assert "expected positive whole numbers" in str(done.exception)
