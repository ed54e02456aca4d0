"""The filling rule of the golden vectors: every value of a state_dict from its name, so no weights need to be stored.

The entry `name` of `shape` under `seed` takes as many little-endian uint32 from SHAKE-256("<seed>/<name>") as it has
elements; mapped to u in (-1, 1), and from there to a range that keeps activations near one. Torch and numpy only.
"""

import hashlib
import math

import numpy as np
import torch


def uniform(key: str, shape: tuple[int, ...]) -> np.ndarray:
    """float64 in (-1, 1), C order."""
    count = math.prod(shape)
    words = np.frombuffer(hashlib.shake_256(key.encode()).digest(4 * count), dtype="<u4")
    return (2.0 * ((words.astype(np.float64) + 0.5) / 2.0**32) - 1.0).reshape(shape)


def value(name: str, shape: tuple[int, ...], seed: str) -> np.ndarray:
    """The float32 value of one entry, a leading `module.` aside."""
    name = name.removeprefix("module.")
    return _scaled(name, shape, uniform(f"{seed}/{name}", tuple(shape))).astype(np.float32)


def _scaled(name: str, shape: tuple[int, ...], u: np.ndarray) -> np.ndarray:
    leaf = name.rpartition(".")[2]
    vector = len(shape) <= 1
    if leaf in ("A_log", "A_logs"):  # A = -exp(A_log) is about -1..-N
        return np.log(1 + 7.5 * (1 + u)) if vector else np.log1p(np.arange(shape[-1])) + 0.25 * u
    if leaf in ("D", "Ds"):
        return 1 + 0.2 * u
    if leaf in ("dt_bias", "dt_projs_bias") or name.endswith("dt_proj.bias"):  # its softplus in 1e-3..1e-1
        dt = np.exp(math.log(1e-3) + 0.5 * (u + 1) * math.log(100.0))
        return dt + np.log(-np.expm1(-dt))
    if leaf in ("running_mean", "running_var"):
        return 0.1 * u if leaf == "running_mean" else 1 + 0.3 * u
    if vector:
        return 0.1 * u if "bias" in leaf else 1 + 0.1 * u
    if "pos_embed" in name or "token" in leaf:
        return 0.5 * u
    fan_in = math.prod(shape[1:]) if leaf == "weight" else shape[-1]
    return 0.7 * u * math.sqrt(3.0 / fan_in)


@torch.no_grad()
def fill_(model: torch.nn.Module, seed: str) -> torch.nn.Module:
    """Overwrite every floating-point entry of the model's state_dict."""
    for name, entry in model.state_dict().items():
        if entry.is_floating_point():
            entry.copy_(torch.from_numpy(value(name, entry.shape, seed)))
    return model
