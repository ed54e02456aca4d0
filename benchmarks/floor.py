"""The time below which no scan of this kind can come on this machine: that of its multiply-adds alone.

Per 16 states of one step, forward: dt A, five for 2^x, dt x B, the state, the output = 9. Backward: the first eight
again, since states are recomputed, then eight for the adjoint = 16. They all need the same units, so they cannot
overlap each other; what else there is (rounding, softplus, loads, stores, sums over lanes) at best hides behind them.
"""

import ctypes
import os
import shlex
import subprocess
import tempfile
import time
from functools import cache
from pathlib import Path

LANES = 16
MULTIPLY_ADDS = {"forward": 9, "forward+backward": 25}
_ROUNDS, _PER_ROUND = 200_000, 16


@cache
def seconds_per_multiply_add() -> float:
    """Of LANES lanes on one thread, the best of several tries; with POSESCALE_MARCH, for that instruction set."""
    source = Path(__file__).with_name("floor.c")
    march = f"-march={os.environ.get('POSESCALE_MARCH', 'native')}"
    flags = ["-std=c99", "-O3", "-fopenmp-simd", "-ffp-contract=fast", march, "-mprefer-vector-width=512"]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "floor.so"
        compiler = shlex.split(os.environ.get("CC", "cc"))
        subprocess.run([*compiler, *flags, "-shared", "-fPIC", str(source), "-o", str(path)], check=True)
        function = ctypes.CDLL(str(path)).multiply_adds
    function.argtypes, function.restype = (ctypes.c_int64, ctypes.c_float), ctypes.c_float
    return min(_timed(function) for _ in range(20)) / (_ROUNDS * _PER_ROUND)


def floor_seconds(states: int, mode: str) -> float:
    """Of a scan over so many states (B K L D N), on one thread."""
    return states / LANES * MULTIPLY_ADDS[mode] * seconds_per_multiply_add()


def _timed(function) -> float:
    start = time.process_time()
    function(_ROUNDS, 0.5)
    return time.process_time() - start
