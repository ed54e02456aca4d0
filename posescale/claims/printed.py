"""Numbers as papers print them: the string decides the value and how far rounding lets the truth lie from it."""

import re
from dataclasses import dataclass

SCALES = {"": 1.0, "K": 1e3, "M": 1e6, "G": 1e9, "B": 1e9, "T": 1e12, "%": 1.0, "x": 1.0}
_NUMBER = re.compile(r"(?P<digits>\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?)(?P<suffix>[KMGBT%x]?)")
_SLACK = 1e-9  # of the last printed digit: binary fractions are not decimal ones


@dataclass(frozen=True)
class Printed:
    """A printed number such as "3.6G", "41.8", "30,040" or "16%".

    Attributes:
        text: the string.
        value: in base units ("3.6G" is 3.6e9; "16%" is 16).
        step: one unit of the last printed digit, in base units ("3.6G" has 0.1e9).
    """

    text: str
    value: float
    step: float

    @property
    def rounding(self) -> tuple[float, float]:
        """Bounds of what rounds to the printed digits, ends included."""
        half = self.step * (0.5 + _SLACK)
        return self.value - half, self.value + half

    def rounds_from(self, value: float) -> bool:
        """Whether `value`, rounded to the printed digits, gives them."""
        low, high = self.rounding
        return low <= value <= high

    def cut_from(self, value: float) -> bool:
        """Whether `value`, cut off after the printed digits instead of rounded, gives them."""
        return self.value - self.step * _SLACK <= value < self.value + self.step

    def like(self, value: float, more: int = 0) -> str:
        """Another value in the same scale, with `more` digits than were printed."""
        suffix = self.text[-1] if self.text[-1] in SCALES else ""
        digits = _decimals(self.text) + more
        return f"{value / SCALES[suffix]:,.{digits}f}{suffix}"


def parse(text: str) -> Printed:
    """Read a printed number.

    Raises:
        ValueError: the text is none; says which forms are understood.
    """
    found = _NUMBER.fullmatch(text)
    if found is None:
        raise ValueError(
            f"{text!r} is not a printed number; understood are digits with an optional decimal part, commas between "
            f"thousands, and one of {' '.join(s for s in SCALES if s)} behind: 41.8, 0.9M, 139.0G, 41,675, 16%"
        )
    scale = SCALES[found["suffix"]]
    return Printed(text, float(found["digits"].replace(",", "")) * scale, scale * 10.0 ** -_decimals(text))


def _decimals(text: str) -> int:
    return len(text.rstrip("KMGBT%x").partition(".")[2])
