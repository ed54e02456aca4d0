"""Made-up records of pose in video, for the report's tests only. No number here was measured."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from made_up_records import FINGERPRINT, STARTED, training

from posescale.records import Record, Value

SEQUENCES = [f"video_{n:02d}" for n in range(24)]
JOINTS = {"visible": 90, "self_occluded": 20, "blurred": 8, "occluder": 12}  # of a video
HIDDEN = ("blurred", "occluder")
COMPONENTS = {"vitpose_tiny": "vitpose", "glsmamba_tiny": "glsmamba", "glsformer_j_tiny": "glsformer"}
OPTIONS = {"task": "video", "split": "test", "overrides": {"frozen": "vit", "height": 96, "width": 64}}


def share(name: str, number: float, group: str = "") -> Value:
    """A share found, in percent."""
    return Value(name=name, value=float(number), unit="%", better="higher", group=group)


def found(
    variant: str, seed: int | None, visible: float, hidden: float, frames: int = 5, condition: str = "as_is",
    overrides: dict[str, Any] | None = None, spread: float = 0.5, **fields: Any,
) -> Record:  # fmt: skip
    """A scored model: shares of visible and of hidden joints, scattered over seeds and videos by `spread`."""
    random = np.random.default_rng([len(variant), seed or 0, frames, len(condition)])
    hardness = 5 * np.random.default_rng(3).standard_normal(len(SEQUENCES))  # the same for every model
    level = {"visible": visible, "self_occluded": visible - 8, "blurred": hidden, "occluder": hidden}
    shares = {
        s: level[s] + hardness + spread * random.standard_normal(len(SEQUENCES)) + spread * random.standard_normal()
        for s in level
    }
    joints = {s: np.full(len(SEQUENCES), float(n)) for s, n in JOINTS.items()}
    joints["occluder"][0] = joints["blurred"][0] = 0  # a video with nothing hidden
    shares["hidden"], joints["hidden"] = _together(shares, joints, HIDDEN)
    shares[""], joints[""] = _together(shares, joints, tuple(JOINTS))
    stems = {s: f"{s}_" if s else "" for s in shares}
    samples = {f"{stems[s]}pck_by_sequence": list(np.where(joints[s] > 0, shares[s], np.nan)) for s in shares}
    samples |= {f"{stems[s]}joints_by_sequence": list(joints[s]) for s in shares}
    means = {s: float(np.average(shares[s], weights=joints[s])) for s in shares}
    values = [share("pck", means[""]), share("ap", means[""] - 10), share("pck", means[""] + 2, "Head")]
    for state in (s for s in shares if s):
        values.append(share("pck_by_state", means[state], state))
        values.append(Value(name="joints_by_state", value=joints[state].sum(), unit="joints", group=state))
    content = {
        "kind": "accuracy", "variant": variant, "component": COMPONENTS.get(variant, "controls"), "digest": "d1",
        "study": "time", "dataset": "synthetic_video", "protocol": "posetrack_gt_boxes", "data_digest": "v1",
        "frames": frames, "resolution": (96, 64) if variant in COMPONENTS else None, "seed": seed,
        "selection": "last" if seed is not None else None, "dtype": "float32", "mode": "eager", "device": "cpu",
        "options": OPTIONS | {"condition": condition, "overrides": OPTIONS["overrides"] | (overrides or {})},
        "values": values, "samples": samples, "labels": dict.fromkeys(samples, SEQUENCES),
        "fingerprint": FINGERPRINT, "started": STARTED,
    }  # fmt: skip
    return Record(**(content | fields))


def _together(shares: dict, joints: dict, states: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray]:
    total = sum(joints[s] for s in states)
    return sum(shares[s] * joints[s] for s in states) / np.maximum(total, 1), total


def time_study(
    hidden: float = 70, own_frame: float = 55, shuffled: float = 57, other_video: float = 50, seeds: int = 3
) -> Iterator[Record]:
    """An image-only model that finds 55 % of hidden joints, a video model under four conditions, and a control."""
    for seed in range(seeds):
        yield found("vitpose_tiny", seed, 90, 55, frames=1)
        yield found("glsmamba_tiny", seed, 90, hidden)
        yield found("glsmamba_tiny", seed, 90, own_frame, condition="own_frame")
        yield found("glsmamba_tiny", seed, 89, shuffled, condition="shuffled")
        yield found("glsmamba_tiny", seed, 85, other_video, condition="other_video")
    yield found("interpolate_visible", None, 100, 95)


def ablation_study(seeds: int = 3) -> Iterator[Record]:
    """The whole model and three rows: one clearly worse, one the same, one that the paper does not have."""
    rows = {"unified": ({"paths": 2}, 60), "without_stmm": ({"merging": "sum"}, 70), "wider": ({"dim": 48}, 75)}
    for seed in range(seeds):
        yield found("vitpose_tiny", seed, 90, 55, frames=1, study="parts")
        yield found("glsmamba_tiny", seed, 90, 70, study="parts")
        for label, (overrides, hidden) in rows.items():
            visible = 90 if label == "without_stmm" else 90 + (hidden - 70) / 2
            more = {"overrides": overrides, "study": "parts", "label": label, "spread": 0.2}
            yield found("glsmamba_tiny", seed, visible, hidden, **more)


def measured(
    kind: str, variant: str, value: float | None, frames: int, size: tuple[int, int], label: str = "", **fields: Any
) -> Record:
    """A timed, weighed or counted cell; without a value it ran out of memory."""
    values = {
        "latency": lambda x: [Value(name="latency", value=x, unit="ms", better="lower", interval=(0.99 * x, 1.01 * x))],
        "memory": lambda x: [Value(name="peak_rss_delta", value=x, unit="MiB", better="lower")],
        "cost": lambda x: [Value(name="macs", value=x, unit="MAC", convention="contractions+scan")],
    }[kind]
    content = {
        "kind": kind, "variant": variant, "component": COMPONENTS[variant], "label": label, "digest": "d1",
        "study": "tokens", "frames": frames, "resolution": size, "batch": 1, "dtype": "float32", "mode": "eager",
        "device": "cpu", "threads": 1, "options": {"overrides": {"height": size[0], "width": size[1]}},
        "values": [] if value is None else values(value), "fingerprint": FINGERPRINT, "started": STARTED,
    }  # fmt: skip
    if label:
        content["options"]["overrides"]["attention"] = "naive"
    lost = {"status": "oom", "reason": "MemoryError: 5 GiB asked for"} if value is None else {}
    return Record(**(content | lost | fields))


def scaling_study() -> Iterator[Record]:
    """A linear and two quadratic models over resolution at T = 5 and over T at 128 x 96; the naive one runs out."""
    cells = [(5, (64, 48)), (5, (128, 96)), (5, (256, 192)), (5, (512, 384)), (1, (128, 96)), (17, (128, 96))]
    for frames, size in cells:
        tokens = frames * size[0] * size[1] / 16
        yield measured("cost", "glsmamba_tiny", 1e4 * tokens, frames, size)
        yield measured("cost", "glsformer_j_tiny", 1e4 * tokens + 10 * tokens**2, frames, size)
        for kind, scale in (("latency", 1e-2), ("memory", 1e-3)):
            yield measured(kind, "glsmamba_tiny", scale * tokens, frames, size)
            yield measured(kind, "glsformer_j_tiny", scale * tokens**2 / 1e3, frames, size)
            naive = None if tokens > 20_000 else scale * tokens**2 / 500
            yield measured(kind, "glsformer_j_tiny", naive, frames, size, "joint_naive")


def video_training(seed: int) -> Record:
    """A training run that watched PCK."""
    curve = [30.0 + 10 * n for n in range(5)]
    fields = {"component": "glsmamba", "variant": "glsmamba_tiny", "dataset": "synthetic_video", "frames": 5}
    values = [Value(name="val_pck", value=curve[-1], unit="%", better="higher")]
    samples = {"loss": [1 / (n + 1) for n in range(5)], "val_pck": curve}
    return training("posemamba_tiny", seed, **fields, values=values, samples=samples, study="time")
