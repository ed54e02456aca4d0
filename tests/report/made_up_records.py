"""Made-up records in the shapes the pipeline writes, for the report's tests only. No number here was measured."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from posescale.records import Record, Value

FINGERPRINT = {
    "cpu": "Example(R) Server CPU @ 2.00GHz", "cores": 2, "memory_gib": 8.0, "system": "Linux 6.0", "python": "3.11.9",
    "packages": {"torch": "2.13.0", "numpy": "2.4.6"}, "commit": "0123456789abcdef", "dirty": False,
}  # fmt: skip
# variant -> component, error at T = 27, MACs per frame, MACs per frame squared, parameters
MODELS = {
    "posemamba_tiny": ("posemamba", 62.0, 2.1e6, 0.0, 0.11e6),
    "posemamba_s": ("posemamba", 51.0, 33e6, 0.0, 1.47e6),
    "motionbert_tiny": ("motionbert", 64.5, 2.6e6, 9e3, 0.14e6),
    "motionbert_lite": ("motionbert", 52.5, 280e6, 150e3, 16.0e6),
    "mixste_tiny": ("mixste", 70.0, 3.0e6, 12e3, 0.2e6),
}
CONTROLS = {"ground_truth": 0.0, "mean_pose": 182.4, "copy_previous": 24.9}
ACTIONS = ("walk", "run", "jump", "sit", "wave")
STARTED = "2026-01-01T00:00:00+00:00"


def accuracy(name: str, error: float, seed: int | None, frames: int = 27, **fields: Any) -> Record:
    """A scored model or control, its error drawn about `error`."""
    random = np.random.default_rng([len(name), seed or 0, frames])
    level = error * (1 + 0.015 * random.standard_normal()) if seed is not None else error
    sequences = [f"S{i // 4}_{ACTIONS[i % 5]}_{i}" for i in range(20)]
    hardness = 1 + 0.2 * np.random.default_rng(7).standard_normal(20)
    values = [
        value(m, level * s, u)
        for m, s, u in [
            ("mpjpe", 1, "mm"),
            ("p_mpjpe", 0.8, "mm"),
            ("n_mpjpe", 0.97, "mm"),
            ("mpjve", 0.06, "mm/frame"),
        ]
    ]
    values += [value("mpjpe", level * (0.9 + 0.05 * i), "mm", group=a) for i, a in enumerate(ACTIONS)]
    content = {
        "kind": "accuracy", "variant": name, "component": MODELS[name][0] if name in MODELS else "controls",
        "digest": "d1", "study": "synthetic", "dataset": "synthetic_motion", "protocol": "cmu_cam",
        "data_digest": "abc123", "frames": frames, "seed": seed,
        "selection": "last" if seed is not None else None, "options": {"split": "test"},
        "dtype": "float32", "device": "cpu", "values": values, "fingerprint": FINGERPRINT, "started": STARTED,
        "samples": {"mpjpe_by_sequence": list(level * (hardness + 0.02 * random.standard_normal(20)))},
        "labels": {"mpjpe_by_sequence": sequences},
    }  # fmt: skip
    return Record(**(content | fields))


def value(name: str, number: float, unit: str, **fields: Any) -> Value:
    """A value; lower is better."""
    return Value(name=name, value=float(number), unit=unit, better="lower", **fields)


def training(name: str, seed: int, **fields: Any) -> Record:
    """A training run with its curves."""
    epochs = np.arange(1, 21)
    random = np.random.default_rng([len(name), seed])
    curve = MODELS[name][1] * (1 + 1.6 * np.exp(-epochs / 4)) + random.standard_normal(20)
    content = {
        "kind": "training", "component": MODELS[name][0], "variant": name, "digest": "d1",
        "dataset": "synthetic_motion", "protocol": "cmu_cam", "frames": 27, "seed": seed,
        "values": [value("val_mpjpe", curve[-1], "mm")],
        "samples": {"loss": list(curve / 1000), "val_mpjpe": list(curve)}, "fingerprint": FINGERPRINT,
        "started": STARTED, "options": {"recipe": {"epochs": 20}, "weights": {"last": f"{name}{seed}"}},
    }  # fmt: skip
    return Record(**(content | fields))


def macs(name: str, frames: int) -> float:
    """Made-up multiply-accumulates of one clip."""
    _, _, linear, square, _ = MODELS[name]
    return linear * frames + square * frames**2


def cost(name: str, frames: int, **fields: Any) -> Record:
    """Counted cost by four conventions."""
    component, _, linear, _, parameters = MODELS[name]
    total, scan = macs(name, frames), 1.6 if component == "posemamba" else 1.0
    by = {
        "contractions": total,
        "contractions+scan": scan * total,
        "thop": 0.9 * linear * frames,
        "fvcore": 0.95 * total,
    }
    values = [value("parameters", parameters, "parameters", convention="unique")]
    values += [value("parameters", 0.7 * parameters, "parameters", convention="thop")]
    values += [value("macs", n, "MAC", convention=c) for c, n in by.items()]
    values += [value("flops", 2 * n, "FLOP", convention=c) for c, n in by.items()]
    content = {
        "kind": "cost", "component": component, "variant": name, "digest": "d1", "study": "synthetic", "frames": frames,
        "batch": 1, "dtype": "float32", "values": values, "fingerprint": FINGERPRINT, "started": STARTED,
        "options": {"calls": {"mm": frames}, "routes": ["dispatch"]},
    }  # fmt: skip
    return Record(**(content | fields))


def latency(name: str, frames: int, attention: str | None = None, **fields: Any) -> Record:
    """A timed cell."""
    random = np.random.default_rng([len(name), frames])
    level = 3 + 1.2 * macs(name, frames) * 1e-7 * (1.3 if attention == "naive" else 1)
    samples = level * (1 + 0.02 * random.standard_normal(60))
    content = {
        "kind": "latency", "component": MODELS[name][0], "variant": name, "digest": "d1", "study": "synthetic",
        "frames": frames, "batch": 1, "dtype": "float32", "mode": "eager", "device": "cpu", "threads": 1,
        "options": {"scope": "model only"} | ({"preferences": {"attention": attention}} if attention else {}),
        "samples": {"latency": list(samples)},
        "values": [value("latency", np.median(samples), "ms", interval=(level * 0.985, level * 1.02)),
                   value("latency_per_frame", np.median(samples) / frames, "ms"), value("samples", 60, "calls"),
                   value("latency_p5", np.percentile(samples, 5), "ms")],
        "fingerprint": FINGERPRINT, "started": STARTED,
    }  # fmt: skip
    return Record(**(content | fields))


def memory(name: str, frames: int, **fields: Any) -> Record:
    """A memory peak."""
    peak = 20 + 0.05 * frames + macs(name, frames) / 4e7
    content = {"kind": "memory", "values": [value("peak_rss_delta", peak, "MiB")], "samples": {}}
    return latency(name, frames, **(content | fields))


def failed(make: Callable[..., Record], *arguments: Any, status: str, reason: str, **fields: Any) -> Record:
    """The same cell, ended otherwise."""
    return make(*arguments, values=[], samples={}, labels={}, status=status, reason=reason, **fields)


def everything() -> Iterator[Record]:
    """A full, mostly successful run of five models with some honest failures."""
    for name in MODELS:
        for seed in range(3):
            yield training(name, seed)
            for selection in ("last", "val-best"):
                shift = 0.99 if selection == "val-best" else 1.0
                yield accuracy(name, MODELS[name][1] * shift, seed, selection=selection)
        for frames in (9, 27, 81, 243, 729):
            yield cost(name, frames)
            if frames == 729 and name == "motionbert_lite":
                reason = "8.2 GiB asked for, 6.1 GiB free"
                yield failed(latency, name, frames, status="oom", reason=reason)
                yield failed(memory, name, frames, status="oom", reason=reason)
            else:
                yield latency(name, frames)
                yield memory(name, frames)
            if name == "motionbert_tiny":
                yield latency(name, frames, "naive")
    yield from (accuracy(name, error, None) for name, error in CONTROLS.items())
    yield failed(latency, "mixste_tiny", 2187, status="timeout", reason="did not end within 120 s")
    yield failed(latency, "posemamba_s", 2187, status="unsupported", reason="no compiler for the native scan")
    unstable = {"status": "unstable", "reason": "half-width 1.4 % of p50, the rule asks for 0.5 %"}
    yield latency("posemamba_tiny", 2187, **unstable)
    yield failed(cost, "mixste_tiny", 2187, status="uncounted", reason="nothing prices aten::example (2 calls)")
