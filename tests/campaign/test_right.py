"""Part 1 on the CPU: the same functions that a GPU will run."""

import pytest
import torch

from posescale.campaign import right
from posescale.campaign.cell import Context


@pytest.fixture
def context(tmp_path):
    return Context("cpu", tmp_path, "s")


SMALL = {"batch": 1, "channels": 6, "states": 3, "rank": 2, "lengths": [1, 17]}


@pytest.mark.parametrize("directions", [1, 4, 6])
def test_back_ends_that_are_right(context, directions):
    found = list(right.scan_is_right(context, ["torch", "reference"], dtypes=["float32", "bfloat16"],
                                     directions=directions, deterministic=[False, True], **SMALL))  # fmt: skip
    assert len(found) == 2 * 2 * 2 * 2
    for record in found:
        assert record.status == "ok", record.reason
        errors = {v.group: v.value for v in record.values}
        assert list(errors) == list(right.NAMES)
        assert all(errors[n] <= record.options["bounds"][n] for n in errors)
        assert record.backends == {"multi_scan": record.options["backend"]}


@pytest.mark.parametrize("wrong", ["a token", "a gradient", "nan"])
def test_back_ends_that_are_wrong(context, monkeypatch, wrong):
    true = right.multi_scan

    def false(u, *rest, **named):
        if wrong == "a gradient":
            u = u + 0.01 * (u - u.detach())
        y = true(u, *rest, **named)
        if wrong == "a token":
            y = y + torch.nn.functional.one_hot(torch.tensor(0), y.shape[1])[None, :, None] * 1e-3
        return y * float("nan") if wrong == "nan" else y

    monkeypatch.setattr(right, "multi_scan", false)
    for record in right.scan_is_right(context, ["torch"], **SMALL):
        assert record.status == "crashed" and "is off by" in record.reason
        assert ("du is off" in record.reason) == (wrong != "a token")


def test_a_back_end_that_is_not_here_is_unsupported(context):
    (record,) = right.scan_is_right(context, ["mamba_ssm"], **(SMALL | {"lengths": [5]}))
    assert record.status == "unsupported" and "not available" in record.reason and not record.values


def test_another_back_end_than_the_one_asked_for_is_unsupported(context, monkeypatch):
    true = right.multi_scan
    monkeypatch.setattr(right, "multi_scan", lambda *x, backend, **named: true(*x, backend="torch", **named))
    (record,) = right.scan_is_right(context, ["reference"], **(SMALL | {"lengths": [5]}))
    assert record.status == "unsupported" and "reference was asked for" in record.reason


def test_models(context):
    eager, graph = right.model_is_right(context, "posemamba_tiny", 9, ["eager", "graph"])
    assert eager.status == "ok" and eager.values[0].value < 1e-6 and eager.backends
    assert graph.status == "unsupported" and "CUDA graph" in graph.reason
    (half,) = right.model_is_right(context, "motionbert_tiny", 9, ["eager"], dtypes=["bfloat16"])
    assert half.status == "ok" and half.values[0].value > 1e-4


def test_a_mode_that_ignores_its_input_is_caught(context, monkeypatch):
    true = right.Contender._prepare

    def stuck(self, mode):
        run, (first, *_) = true(self, mode), self.pool
        return lambda *inputs: run(*first)

    monkeypatch.setattr(right.Contender, "_prepare", stuck)
    (record,) = right.model_is_right(context, "posemamba_tiny", 9, ["eager"])
    assert record.status == "crashed" and "output is off by" in record.reason
