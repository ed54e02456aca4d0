"""Actions as joint angles over time, and trials that pass from one action to the next.

Every action is a function (seconds, duration, style, rng) -> Performance. Angles in degrees (see body.LIMITS).
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from posescale.data.synthetic_motion.body import COLUMN, LIMITS

BLEND = 0.6  # seconds over which one action passes into the next


@dataclass(frozen=True)
class Style:
    """How a person moves, whatever the action."""

    tempo: float
    stride: float
    lean: float  # degrees of the pelvis
    slouch: float  # degrees of the spine
    arms: float  # degrees the arms are held away from the body
    swing: float
    bounce: float


def draw_style(rng: np.random.Generator) -> Style:
    """A person's habits."""
    return Style(
        tempo=rng.uniform(0.85, 1.15), stride=rng.uniform(0.8, 1.2), lean=rng.uniform(-2, 5),
        slouch=rng.uniform(-4, 12), arms=rng.uniform(4, 14), swing=rng.uniform(0.6, 1.4), bounce=rng.uniform(0.8, 1.2),
    )  # fmt: skip


@dataclass
class Performance:
    """Angles by name over time (those not named rest), and the turning rate in degrees per second."""

    angles: dict[str, np.ndarray | float] = field(default_factory=dict)
    turning: np.ndarray | float = 0.0


def wave_of(phase: np.ndarray, peak: float, sharp: float = 1.0) -> np.ndarray:
    """A periodic bump in 0..1 with its peak at `peak` radians; sharper for larger `sharp`."""
    return ((1 + np.cos(phase - peak)) / 2) ** sharp


def keyed(seconds: np.ndarray, *keys: tuple[float, float]) -> np.ndarray:
    """Values through (time, value) keys, at rest in each of them (smoothstep between)."""
    times, values = np.array(keys).T
    place = np.clip(np.searchsorted(times, seconds, side="right") - 1, 0, len(times) - 2)
    u = np.clip((seconds - times[place]) / (times[place + 1] - times[place]), 0, 1)
    return values[place] + (values[place + 1] - values[place]) * u * u * (3 - 2 * u)


def _gait(seconds: np.ndarray, style: Style, rate: float, stride: float, lift: float) -> tuple[np.ndarray, dict]:
    """Legs and arms of walking and running: thighs swing in opposition, the knee bends while its leg comes forward."""
    phase = 2 * np.pi * rate * style.tempo * seconds
    reach = stride * style.stride
    angles: dict[str, np.ndarray | float] = {}
    for leg, arm, shift in (("l", "r", 0.0), ("r", "l", np.pi)):
        p = phase + shift
        angles[f"{leg}_hip"] = 0.28 * reach + reach * np.sin(p) + 0.25 * lift * wave_of(p, 0.1, 2)
        angles[f"{leg}_knee"] = 6 + lift * wave_of(p, -0.15, 2.5) + 10 * wave_of(p, 2.2, 3)
        angles[f"{arm}_shoulder"] = 3 + style.swing * reach * 0.9 * np.sin(p)
    angles["pelvis_yaw"] = -0.2 * reach * np.sin(phase)
    angles["spine_yaw"] = 0.45 * reach * np.sin(phase)
    angles["pelvis_roll"] = 2.5 * np.cos(phase)
    angles["spine_roll"] = -2.5 * np.cos(phase)
    return phase, angles


def _curve(seconds: np.ndarray, rng: np.random.Generator, rate: tuple[float, float]) -> np.ndarray:
    """Turning rate of a curved path: to one side, with a slow sway."""
    side = rng.choice([-1.0, 1.0])
    return side * rng.uniform(*rate) * (1 + 0.4 * np.sin(2 * np.pi * 0.23 * seconds + rng.uniform(0, 6)))


def walk(seconds: np.ndarray, duration: float, style: Style, rng: np.random.Generator) -> Performance:
    """Walking on a curved path."""
    phase, angles = _gait(seconds, style, 0.92, 21, 58)
    for letter, shift in (("l", np.pi), ("r", 0.0)):
        angles[f"{letter}_elbow"] = 18 + 12 * style.swing * (1 + np.sin(phase + shift))
    return Performance(angles, _curve(seconds, rng, (25, 55)))


def run(seconds: np.ndarray, duration: float, style: Style, rng: np.random.Generator) -> Performance:
    """Jogging on a curved path, with a phase of flight in each step."""
    phase, angles = _gait(seconds, style, 1.32, 23, 92)
    angles["flight"] = 0.055 * style.bounce * wave_of(2 * phase, np.pi - 0.5, 2)
    angles |= {"l_elbow": 88.0, "r_elbow": 88.0, "pelvis_pitch": 6.0, "spine_pitch": style.slouch + 6}
    return Performance(angles, _curve(seconds, rng, (80, 120)))


def turn(seconds: np.ndarray, duration: float, style: Style, rng: np.random.Generator) -> Performance:
    """Turning on the spot in small steps, looking ahead of the turn."""
    phase = 2 * np.pi * 1.0 * style.tempo * seconds
    share = keyed(seconds, (0.2, 0), (0.6, 1), (max(0.9, duration - 0.5), 1), (max(1.2, duration - 0.1), 0))
    rate = rng.choice([-1, 1]) * rng.uniform(70, 120) * share
    angles: dict[str, np.ndarray | float] = {"neck_yaw": rate * 0.25, "spine_yaw": rate * 0.1}
    for letter, shift in (("l", 0.0), ("r", np.pi)):
        step = share * wave_of(phase + shift, 0.0, 3)
        angles[f"{letter}_hip"] = 3 + 22 * step
        angles[f"{letter}_knee"] = 5 + 42 * step
    return Performance(angles, rate)


def wave(seconds: np.ndarray, duration: float, style: Style, rng: np.random.Generator) -> Performance:
    """Waving with one raised hand."""
    arm = rng.choice(["l", "r"])
    swing = np.sin(2 * np.pi * rng.uniform(1.4, 2.2) * style.tempo * seconds)
    up = keyed(seconds, (0.0, 0), (0.6, 1), (max(1.0, duration - 0.6), 1), (max(1.6, duration), 0))
    angles = {
        f"{arm}_shoulder": 12 * up, f"{arm}_shoulder_abduction": style.arms + up * rng.uniform(65, 95),
        f"{arm}_shoulder_twist": up * 75, f"{arm}_elbow": 15 + up * (75 + 28 * swing),
        "spine_roll": up * 4 * swing * (1 if arm == "l" else -1), "neck_yaw": up * rng.uniform(-15, 15),
    }  # fmt: skip
    return Performance(angles)


def reach(seconds: np.ndarray, duration: float, style: Style, rng: np.random.Generator) -> Performance:
    """Reaching for things in front and above, one arm after the other."""
    angles = {name: np.zeros_like(seconds) for name in ("spine_pitch", "spine_yaw", "pelvis_pitch")}
    for letter in ("l", "r"):
        angles |= {f"{letter}_shoulder": np.zeros_like(seconds), f"{letter}_elbow": np.full_like(seconds, 15.0)}
        angles[f"{letter}_shoulder_abduction"] = np.full_like(seconds, style.arms)
    start = 0.0
    while start < duration:
        arm, span = rng.choice(["l", "r"]), rng.uniform(1.6, 2.4) / style.tempo
        out = keyed(seconds, (start, 0), (start + 0.4 * span, 1), (start + 0.6 * span, 1), (start + span, 0))
        height = rng.uniform(45, 150)
        angles[f"{arm}_shoulder"] += out * height
        angles[f"{arm}_shoulder_abduction"] += out * rng.uniform(-8, 35)
        angles[f"{arm}_elbow"] += 45 * 4 * out * (1 - out) - 5 * out
        angles["spine_yaw"] += out * rng.uniform(5, 25) * (-1 if arm == "l" else 1)
        angles["spine_pitch"] += out * max(0.0, 100 - height) * 0.4
        angles["pelvis_pitch"] += out * max(0.0, 100 - height) * 0.15
        start += span
    return Performance(angles)


def _bent(deep: np.ndarray, thigh: float, knee: float, lean: float) -> dict[str, np.ndarray | float]:
    """Both legs bent by `deep` in 0..1: thighs `thigh` degrees forward of the vertical while the pelvis leans."""
    angles: dict[str, np.ndarray | float] = {"pelvis_pitch": lean * deep}
    for letter in ("l", "r"):
        angles[f"{letter}_hip"] = 2 + (thigh + lean) * deep
        angles[f"{letter}_knee"] = 4 + knee * deep
        angles[f"{letter}_hip_abduction"] = 4 + 6 * deep
        angles[f"{letter}_hip_twist"] = 4 + 8 * deep
    return angles


def squat(seconds: np.ndarray, duration: float, style: Style, rng: np.random.Generator) -> Performance:
    """Squats with the arms stretched forward."""
    period = rng.uniform(1.8, 2.6) / style.tempo
    deep = wave_of(2 * np.pi * seconds / period, np.pi, 1.0) * rng.uniform(0.8, 1.0)
    angles = _bent(deep, 78, 100, 32) | {"spine_pitch": style.slouch + 8 * deep, "neck_pitch": -12 * deep}
    forward = 15 + 115 * deep  # level, while the trunk leans
    return Performance(angles | {"l_shoulder": forward, "r_shoulder": forward, "l_elbow": 10.0, "r_elbow": 10.0})


def sit(seconds: np.ndarray, duration: float, style: Style, rng: np.random.Generator) -> Performance:
    """Sitting down on an unseen chair, moving the arms, standing up."""
    end = max(2.4, duration)
    down = keyed(seconds, (0.2, 0), (1.2, 1), (end - 1.1, 1), (end - 0.1, 0))
    effort = 4 * down * (1 - down)  # the trunk leans forward on the way
    angles = _bent(down, 84, 88, 4)
    angles["pelvis_pitch"] = 4 * down + 26 * effort
    for letter in ("l", "r"):
        angles[f"{letter}_hip"] = 2 + 88 * down + 26 * effort
        gesture = np.sin(2 * np.pi * rng.uniform(0.25, 0.6) * seconds + rng.uniform(0, 6))
        angles[f"{letter}_shoulder"] = down * (28 + 14 * gesture)
        angles[f"{letter}_elbow"] = 15 + down * (45 + 30 * gesture)
    angles["neck_yaw"] = down * 25 * np.sin(2 * np.pi * 0.3 * seconds + rng.uniform(0, 6))
    return Performance(angles)


def jump(seconds: np.ndarray, duration: float, style: Style, rng: np.random.Generator) -> Performance:
    """Jumps on the spot: crouch with the arms back, leave the ground with the arms up, land in the knees."""
    deep, flight, arms = np.zeros_like(seconds), np.zeros_like(seconds), np.zeros_like(seconds)
    start = 0.1
    while start < duration - 1.2:
        height = style.bounce * rng.uniform(0.12, 0.28)
        air = 2 * np.sqrt(2 * height / 9.81)
        off, land = start + 0.6, start + 0.6 + air
        deep += keyed(seconds, (start, 0), (off - 0.2, 1), (off, 0))
        deep += keyed(seconds, (land - 0.05, 0), (land + 0.15, 0.7), (land + 0.5, 0))
        u = np.clip((seconds - off) / air, 0, 1)
        flight += height * 4 * u * (1 - u)
        arms += keyed(seconds, (start, 0), (off - 0.2, -40), (off + 0.1, 120), (land, 60), (land + 0.5, 0))
        start = land + 0.7
    angles = _bent(deep, 42, 72, 28) | {"flight": flight, "l_shoulder": arms, "r_shoulder": arms}
    return Performance(angles | {"l_elbow": 25.0, "r_elbow": 25.0, "spine_pitch": style.slouch + 10 * deep})


def pick_up(seconds: np.ndarray, duration: float, style: Style, rng: np.random.Generator) -> Performance:
    """Bending to the floor, grasping, lifting something to the chest, and putting it back."""
    deep, carry = np.zeros_like(seconds), np.zeros_like(seconds)
    start, side = 0.1, rng.uniform(-18, 18)
    while start < duration - 1.0:
        span = rng.uniform(1.2, 1.5) / style.tempo
        deep += keyed(seconds, (start, 0), (start + 0.45 * span, 1), (start + 0.6 * span, 1), (start + span, 0))
        carry = np.maximum(carry, keyed(seconds, (start + 0.6 * span, 0), (start + span, 1), (start + 2 * span, 0)))
        start += 2 * span
    angles = _bent(deep, 55, 82, 48) | {"spine_pitch": style.slouch + 32 * deep, "spine_yaw": side * deep}
    angles["neck_pitch"] = -18 * deep
    for letter in ("l", "r"):
        angles[f"{letter}_shoulder"] = 70 * deep + 18 * carry
        angles[f"{letter}_elbow"] = 12 + 6 * deep + 75 * carry
        angles[f"{letter}_shoulder_abduction"] = style.arms * (1 - 0.7 * np.maximum(deep, carry))
        angles[f"{letter}_shoulder_twist"] = 20 * carry
    return Performance(angles)


def box(seconds: np.ndarray, duration: float, style: Style, rng: np.random.Generator) -> Performance:
    """Boxing: a guard with one foot ahead, and punches."""
    lead, rear = ("l", "r") if rng.random() < 0.5 else ("r", "l")
    angles: dict[str, np.ndarray | float] = {"pelvis_pitch": 4.0, "spine_pitch": style.slouch + 8}
    bob = 3 * np.sin(2 * np.pi * 1.5 * style.tempo * seconds)
    angles |= {f"{lead}_hip": 27 + bob, f"{lead}_knee": 24 + 2 * bob}
    angles |= {f"{rear}_hip": -6 + bob, f"{rear}_knee": 28 + 2 * bob}
    twist = np.zeros_like(seconds)
    for letter in (lead, rear):
        angles |= {f"{letter}_shoulder": np.full_like(seconds, 38.0), f"{letter}_elbow": np.full_like(seconds, 125.0)}
        angles |= {f"{letter}_shoulder_abduction": 12.0, f"{letter}_shoulder_twist": 25.0}
    start = rng.uniform(0.2, 0.6)
    while start < duration - 0.3:
        arm, span = rng.choice([lead, rear]), rng.uniform(0.4, 0.65) / style.tempo
        out = keyed(seconds, (start, 0), (start + 0.4 * span, 1), (start + 0.5 * span, 1), (start + span, 0))
        angles[f"{arm}_shoulder"] += out * rng.uniform(38, 55)
        angles[f"{arm}_elbow"] -= out * 112
        twist += out * (-28 if arm == "l" else 28)
        start += span * rng.uniform(1.0, 1.8)
    return Performance(angles | {"spine_yaw": twist, "pelvis_yaw": 0.3 * twist})


Action = Callable[[np.ndarray, float, Style, np.random.Generator], Performance]
ACTIONS: dict[str, Action] = {
    "walk": walk, "run": run, "turn": turn, "wave": wave, "reach": reach, "squat": squat, "sit": sit, "jump": jump,
    "pick_up": pick_up, "box": box,
}  # fmt: skip


def perform(action: str, seconds: np.ndarray, style: Style, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """One action alone: angles `(F, len(LIMITS))` within the limits, and the turning rate `(F,)`."""
    duration = float(seconds[-1]) if len(seconds) else 0.0
    done = ACTIONS[action](seconds, duration, style, rng)
    angles = np.zeros((len(seconds), len(LIMITS)))
    rest = {"pelvis_pitch": style.lean, "spine_pitch": style.slouch, "neck_pitch": -0.4 * style.slouch}
    for letter in ("l", "r"):
        rest |= {f"{letter}_hip": style.lean + 3, f"{letter}_knee": 6.0, f"{letter}_hip_abduction": 3.0}
        rest |= {f"{letter}_hip_twist": 6.0, f"{letter}_elbow": 15.0, f"{letter}_shoulder_abduction": style.arms}
    for name, value in (rest | done.angles).items():
        angles[:, COLUMN[name]] = value
    return angles, np.broadcast_to(np.asarray(done.turning, dtype=np.float64), seconds.shape)


def plan(main: str, seconds: float, rng: np.random.Generator) -> list[tuple[str, float]]:
    """A trial of one main action: (action, seconds) in turn, others filling the pauses, at least `seconds` in all."""
    others = [name for name in ACTIONS if name != main]
    segments: list[tuple[str, float]] = []
    while sum(length for _, length in segments) < seconds + BLEND:
        if segments:
            segments.append((str(rng.choice(others)), rng.uniform(1.8, 2.6)))
        segments.append((main, rng.uniform(3.5, 5.0)))
    return segments


def motion_of(
    main: str, frames: int, fps: float, style: Style, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """A whole trial: its segments cross-faded, with a little irregular movement in every angle.

    Returns:
        angles `(F, len(LIMITS))` degrees within the limits, and the heading `(F,)` in degrees.
    """
    seconds = np.arange(frames) / fps
    angles, turning, total = np.zeros((frames, len(LIMITS))), np.zeros(frames), np.zeros(frames)
    begin = 0.0
    for action, length in plan(main, frames / fps, rng):
        inside = (seconds >= begin - BLEND / 2) & (seconds < begin + length + BLEND / 2)
        local = seconds[inside] - begin + BLEND / 2
        these, rate = perform(action, local, style, rng)
        weight = keyed(local, (0, 1e-6 if begin else 1), (BLEND, 1), (length, 1), (length + BLEND, 1e-6))[:, None]
        angles[inside] += weight * these
        turning[inside] += weight[:, 0] * rate
        total[inside] += weight[:, 0]
        begin += length
    angles, turning = angles / total[:, None], turning / total
    angles[:, 1:] += _sway(seconds, len(LIMITS) - 1, rng)
    low, high = np.array(list(LIMITS.values())).T
    heading = rng.uniform(0, 360) + np.cumsum(turning) / fps
    return np.clip(angles, low, high), heading


def _sway(seconds: np.ndarray, columns: int, rng: np.random.Generator) -> np.ndarray:
    """Slow irregular movement `(F, columns)` of about one and a half degrees."""
    rates, phases = rng.uniform(0.1, 0.8, (3, columns)), rng.uniform(0, 2 * np.pi, (3, columns))
    return 1.2 * np.sin(2 * np.pi * rates * seconds[:, None, None] + phases).sum(1)
