"""The selective scan's recurrence run one number at a time, counting what it does.

The convention 9 N + 1 of the literature (operations per token, channel and direction) is thereby not believed but
counted: per state 5 products, 2 sums and one exponential, and one product by the skip weight. The exponential counts
as two operations; that choice is the convention's.
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

EXPONENTIAL = 2  # operations


@dataclass(frozen=True)
class Counted:
    """A float that notes each product, sum and exponential it takes part in."""

    value: float
    tally: Counter

    def _result(self, operation: str, value: float) -> "Counted":
        self.tally[operation] += 1
        return Counted(value, self.tally)

    def __mul__(self, other: "Counted") -> "Counted":
        return self._result("multiply", self.value * other.value)

    def __add__(self, other: "Counted") -> "Counted":
        return self._result("add", self.value + other.value)

    def exp(self) -> "Counted":
        """The exponential of the number."""
        return self._result("exp", math.exp(self.value))


Row = Sequence[float]


def recurrence(
    u: Row, delta: Row, a: Row, b: Sequence[Row], c: Sequence[Row], skip: float
) -> tuple[list[float], Counter]:
    """One channel's scan, s_t = exp(delta_t A) s_{t-1} + delta_t B_t u_t and y_t = D u_t + C_t s_t.

    Args:
        u: input, L numbers.
        delta: step sizes after softplus, L numbers.
        a: A, N numbers.
        b: B, L rows of N numbers.
        c: C, L rows of N numbers.
        skip: D.

    Returns:
        y, and how many products, sums and exponentials were made.
    """
    tally: Counter = Counter()

    def counted(row: Row) -> list[Counted]:
        return [Counted(float(x), tally) for x in row]

    states, decay, weight = counted([0.0] * len(a)), counted(a), Counted(float(skip), tally)
    outputs = []
    for x, step, b_row, c_row in zip(counted(u), counted(delta), map(counted, b), map(counted, c), strict=True):
        y = weight * x
        for n in range(len(a)):
            states[n] = (step * decay[n]).exp() * states[n] + step * b_row[n] * x
            y = y + c_row[n] * states[n]
        outputs.append(y.value)
    return outputs, tally


def operations(tally: Counter) -> int:
    """FLOPs of a tally: one per product and sum, two per exponential."""
    return tally["multiply"] + tally["add"] + EXPONENTIAL * tally["exp"]


def counted_scan_flops(length: int, channels: int, states: int) -> int:
    """FLOPs of a scan of L tokens, D channels and N states, by really running it on small numbers."""
    rows = [[0.1 * (n + 1) for n in range(states)] for _ in range(length)]
    numbers = [0.5 + 0.01 * t for t in range(length)]
    a = [-1.0 - n for n in range(states)]
    return sum(operations(recurrence(numbers, numbers, a, rows, rows, 1.0)[1]) for _ in range(channels))
