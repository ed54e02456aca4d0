import inspect

import pytest

from posescale.campaign.cell import RUNS, Context, function
from posescale.campaign.plan import PARTS, default_plan, read_plan
from posescale.cards import component
from posescale.errors import ConfigError


def plan(tmp_path, text):
    path = tmp_path / "plan.yaml"
    path.write_text(text)
    return path


def test_combinations_and_order(tmp_path):
    cells = read_plan(plan(tmp_path, """
- {part: models, name: clips, run: latency, each: {frames: [[9], [27]], mode: [graph, eager]}, models: [a], forecast: 7}
- {part: right, name: check, run: scan_is_right}
- {part: models, name: more, run: latency}
- {part: scan, name: glance, run: scan, first: true}
"""))  # fmt: skip
    assert [c.label for c in cells] == [
        "glance", "check", "clips, frames 9, mode graph", "clips, frames 9, mode eager", "clips, frames 27, mode graph",
        "clips, frames 27, mode eager", "more",
    ]  # fmt: skip
    assert cells[2].settings == {"models": ["a"], "frames": [9], "mode": "graph"} and cells[2].forecast == 7


def test_a_label_or_a_forecast_does_not_change_the_work(tmp_path):
    (a,) = read_plan(plan(tmp_path, "- {part: right, name: x, run: y, forecast: 1, n: 2}"))
    (b,) = read_plan(plan(tmp_path, "- {part: right, name: z, run: y, forecast: 5, n: 2}"))
    (c,) = read_plan(plan(tmp_path, "- {part: right, name: x, run: y, forecast: 1, n: 3}"))
    assert a.key("cpu") == b.key("cpu") != c.key("cpu")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("part: right", "expected a list"),
        ("- {part: wrong, name: x, run: y}", "entry 1: part"),
        ("- {part: right, run: y}", "entry 1: name"),
        ("- {part: right, name: x}", "either `run` or `blocked`"),
        ("- {part: right, name: x, run: y, blocked: z}", "either `run` or `blocked`"),
        ("- {part: right, name: x, run: y, forecast: 0}", "forecast"),
        ("- [", "YAML"),
        ("- {part: right, name: x, run: y}\n- {part: right, name: z, run: y}", "planned twice"),
    ],
)
def test_wrong_plans_are_refused(tmp_path, text, message):
    with pytest.raises(ConfigError, match=message):
        read_plan(plan(tmp_path, text))


def test_an_absent_plan_and_an_unknown_run(tmp_path):
    with pytest.raises(ConfigError, match="absent.yaml"):
        read_plan(tmp_path / "absent.yaml")
    with pytest.raises(ConfigError, match="there are scan_is_right"):
        function("nothing")


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_committed_plans_ask_for_what_there_is(device, tmp_path):
    """Every model exists and every setting is an argument: not one GPU minute goes to a typing error."""
    cells = read_plan(default_plan(device))
    assert {c.part for c in cells} == set(PARTS)
    context = Context(device, tmp_path, "s")
    for cell in cells:
        for name in [cell.settings.get("model"), *cell.settings.get("models", [])]:
            assert name is None or component(name)
        if not cell.blocked:
            bound = inspect.signature(function(cell.run)).bind(context, **cell.settings)
            inner = _inner(cell.run)
            if inner and "settings" in bound.arguments:
                inspect.signature(inner).bind_partial(**bound.arguments["settings"])


def _inner(run):
    from posescale.measure.frontier import frontier
    from posescale.measure.latency import latency
    from posescale.measure.memory import memory

    return {"latency": latency, "memory": memory, "frontier": frontier}.get(run)


def test_all_runs_are_found():
    assert all(callable(function(run)) for run in RUNS)
