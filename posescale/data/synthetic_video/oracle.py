"""What neighbouring frames could tell about hidden joints: the bound that makes the dataset a test of time.

An oracle that knows the true positions of the visible joints of nearby frames fills in each joint that its own frame
does not show, on a straight line between the nearest earlier and later sights, or from the one sight there is.
"""

import numpy as np

from posescale.data.video.skeletons import STATES

VISIBLE, OUT = STATES.index("visible"), STATES.index("out_of_frame")
REACH = 2  # frames to either side: a window of five
BOUND = 0.3  # head sizes that an error should stay below


def interpolated(joints: np.ndarray, seen: np.ndarray, reach: int = REACH) -> np.ndarray:
    """Positions from visible neighbours alone.

    Args:
        joints: (F, K, 2) true positions.
        seen: (F, K) whether each is visible.
        reach: frames that may be looked at to either side.

    Returns:
        (F, K, 2); NaN where no visible neighbour is within reach. A joint's own frame is never used.
    """
    frames = len(joints)
    sides = []
    for sign in (-1, 1):
        position, distance = np.full(joints.shape, np.nan), np.full(seen.shape, np.inf)
        for step in range(reach, 0, -1):  # nearer ones overwrite
            source = np.arange(frames) + sign * step
            inside = (source >= 0) & (source < frames)
            use = np.zeros_like(seen)
            use[inside] = seen[source[inside]]
            position[use] = joints[np.clip(source, 0, frames - 1)][use]
            distance[use] = step
        sides.append((position, distance))
    (before, d0), (after, d1) = sides
    share = np.where(np.isfinite(d0) & np.isfinite(d1), d0 / np.where(np.isfinite(d0 + d1), d0 + d1, 1), 0)[..., None]
    between = np.where(share > 0, before + (after - before) * share, np.nan)
    return np.where(np.isfinite(between), between, np.where(np.isfinite(before), before, after))


def checks(tracks: list[tuple[np.ndarray, np.ndarray, np.ndarray]]) -> dict[str, float]:
    """Shares of states, and the oracle's error, over all tracks.

    Args:
        tracks: per person joints (F, K, 2), states (F, K), head sizes (F,); consecutive frames.
    """
    states = np.concatenate([s.ravel() for _, s, _ in tracks])
    shares = {f"share_{name}": float((states == n).mean()) for n, name in enumerate(STATES[:-1])}
    found: dict[str, list[np.ndarray]] = {"occluder": [], "blurred": []}
    for joints, state, head in tracks:
        errors = np.sqrt(((interpolated(joints, state == VISIBLE) - joints) ** 2).sum(-1)) / head[:, None]
        for name, values in found.items():
            values.append(errors[state == STATES.index(name)])
    result = {}
    for name, values in found.items():
        errors = np.concatenate(values)
        bridged = errors[np.isfinite(errors)]
        result[f"oracle_{name}_bridged"] = float(len(bridged) / max(len(errors), 1))
        result[f"oracle_{name}_below_{BOUND}"] = float((bridged < BOUND).sum() / max(len(errors), 1))
        result[f"oracle_{name}_median"] = float(np.median(bridged)) if len(bridged) else float("nan")
    return {name: round(value, 4) for name, value in (shares | result).items() if np.isfinite(value)}
