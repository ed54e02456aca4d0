"""Outputs, gradients and intermediates equal those of the official implementations, with the same weights.

Every `tests/goldens/<model>.npz` that holds a model's cases is run; what differs between models is in ADAPTERS.
"""

import json
import runpy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from posescale.models import create_model

GOLDENS = Path(__file__).resolve().parent.parent / "goldens"
FILL = runpy.run_path(str(GOLDENS / "fill.py"))
fill_, value = FILL["fill_"], FILL["value"]
FLOAT64, FLOAT32 = 1e-9, 2e-5


@dataclass(frozen=True)
class Case:
    file: str
    name: str
    seed: str
    config: dict[str, Any]  # of the official constructor
    state: list[tuple[str, list[int]]]  # official names and shapes, in order
    x: np.ndarray
    y32: np.ndarray
    y64: np.ndarray


# file -> the variant and the constructor arguments that the official configuration of a case stands for
ADAPTERS: dict[str, Callable[[dict[str, Any]], tuple[str, dict[str, Any]]]] = {
    "posemamba_s": lambda c: ("posemamba_s", {"frames": c["num_frame"], "dim": c["dim"], "depth": c["depth"]}),
    "motionbert_lite": lambda c: ("motionbert_lite", {"frames": c["maxlen"], "dim": c["dim_feat"]}),
    "motionagformer_xs": lambda c: ("motionagformer_xs", {"frames": c["n_frames"], "dim": c["dim_feat"]}),
    "mixste": lambda c: ("mixste", {"frames": c["num_frame"], "dim": c["embed_dim"], "depth": c["depth"]}),
    "poseformerv2": lambda c: (
        "poseformerv2",
        {
            "frames": c["num_frame"],
            "kept_frames": c["number_of_kept_frames"],
            "coefficients": c["number_of_kept_coeffs"],
        },
    ),
    "videopose3d": lambda c: ("videopose3d", {"frames": 27, "widths": c["filter_widths"], "causal": c["causal"]}),
}


def _cases(path: Path) -> Iterator[Case]:
    with np.load(path) as file:
        held = {key: file[key] for key in file.files}
    if "y64_T27" in held:
        state, config = (json.loads(str(held[key])) for key in ("state_dict", "config"))
        for key in (key for key in held if key.startswith("x_")):
            arrays = (held[f"{kind}_{key[2:]}"] for kind in ("x", "y32", "y64"))
            yield Case(path.stem, key[2:], str(held["seed"]), config, state, *arrays)
        return
    meta = json.loads(str(held.get("meta", "{}")))
    for name, case in meta.get("cases", {}).items() if "state_dicts" in meta else ():
        state = list(meta["state_dicts"][case["state_dict"]].items())
        arrays = (held[f"{name}/{kind}"] for kind in ("x", "y32", "y64"))
        yield Case(path.stem, name, case["seed"], case["config"], state, *arrays)


CASES = [case for path in sorted(GOLDENS.glob("*.npz")) for case in _cases(path)]


def _build(case: Case, **overrides: Any) -> torch.nn.Module:
    assert case.file in ADAPTERS, f"{case.file}.npz has no line in ADAPTERS"
    variant, arguments = ADAPTERS[case.file](case.config)
    return fill_(create_model(variant, **(arguments | overrides)).eval(), case.seed)


def _error(y: torch.Tensor, expected: np.ndarray) -> float:
    assert y.shape == expected.shape
    return (y.detach().double() - torch.from_numpy(expected).double()).abs().max().item()


@pytest.fixture(params=CASES, ids=lambda case: f"{case.file}-{case.name}")
def case(request) -> Case:
    return request.param


def test_goldens_are_there():
    assert {case.file for case in CASES} >= set(ADAPTERS)


@torch.no_grad()
def test_output_and_state_dict_equal_the_official(case):
    model = _build(case)
    assert [(n, list(t.shape)) for n, t in model.state_dict().items()] == [(n, list(s)) for n, s in case.state]
    x = torch.from_numpy(case.x)
    assert _error(model(x), case.y32) < FLOAT32
    assert _error(model.double()(x.double()), case.y64) < FLOAT64


@torch.no_grad()
@pytest.mark.parametrize("case", [c for c in CASES if c.file == "motionbert_lite"][:1], ids=["T27"])
def test_naive_attention_gives_the_same_numbers(case):
    model = _build(case, attention="naive").double()
    assert _error(model(torch.from_numpy(case.x).double()), case.y64) < FLOAT64


@pytest.mark.parametrize("gradient", ["exact", "official"])
def test_posemamba_gradients(gradient):
    with np.load(GOLDENS / "posemamba_s_grad.npz") as file:
        golden = {key: file[key] for key in file.files}
    model = fill_(create_model("posemamba_s", gradient=gradient).eval(), "posemamba-s").double()
    x = torch.from_numpy(golden["x"]).double().requires_grad_()
    y = model(x)
    (y * torch.from_numpy(golden["w"])).sum().backward()
    assert _error(y, golden["y64"]) < FLOAT64
    assert _error(x.grad[..., :2], golden[f"{gradient}_dx"]) < FLOAT64
    parameters = dict(model.named_parameters())
    assert list(parameters) == json.loads(str(golden["param_names"]))
    norms = np.array([p.grad.norm().item() for p in parameters.values()])
    np.testing.assert_allclose(norms, golden[f"{gradient}_param_grad_norms"], rtol=1e-9)
    for key in (key for key in golden if key.startswith(f"{gradient}_grad_")):
        expected = golden[key]  # stored in float32
        found = parameters[key.removeprefix(f"{gradient}_grad_")].grad.numpy()
        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6 * np.abs(expected).max())


@torch.no_grad()
def test_posemamba_first_pair_of_blocks_step_by_step():
    with np.load(GOLDENS / "posemamba_s_first_block_T27.npz") as file:
        golden = {key: file[key] for key in file.files}
    case = next(c for c in CASES if (c.file, c.name) == ("posemamba_s", "T27"))
    model = _build(case).double()
    seen = _watch(model, torch.from_numpy(case.x).double())
    frames = golden["frames"]
    assert len(seen) == 13
    for name, tensor in seen.items():
        picked = tensor[:, :, frames] if name == "ste0_conv_out" else tensor[:, frames]
        scale = np.abs(golden[name]).max()
        assert _error(picked, golden[name]) < 1e-6 * scale, name


def _watch(model: torch.nn.Module, x: torch.Tensor) -> dict[str, torch.Tensor]:
    """Inputs and outputs of the first pair's modules, under the golden file's names; first call only."""
    first, second = model.STEblocks[0], model.TTEblocks[0]
    outputs = {
        "ste0_norm_out": first.norm, "ste0_in_proj_out": first.op.in_proj, "ste0_conv_out": first.op.conv2d,
        "ste0_out_norm_out": first.op.out_norm, "ste0_op_out": first.op, "ste0_mlp_out": first.mlp, "ste0_out": first,
        "ste0_spatial_norm_out": model.Spatial_norm, "tte0_out": second, "tte0_temporal_norm_out": model.Temporal_norm,
    }  # fmt: skip
    inputs = {"embed_plus_spos": first, "ste0_merged_y": first.op.out_norm, "tte0_in": second}
    seen: dict[str, torch.Tensor] = {}

    def keep(name: str, tensor: torch.Tensor) -> None:
        seen.setdefault(name, tensor.clone())

    for name, module in outputs.items():
        module.register_forward_hook(lambda _m, _i, out, name=name: keep(name, out))
    for name, module in inputs.items():
        module.register_forward_pre_hook(lambda _m, i, name=name: keep(name, i[0]))
    model(x)
    return seen
