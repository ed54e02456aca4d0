"""The verdict on a published number."""

from dataclasses import dataclass
from typing import Literal

Word = Literal["reproduced", "explained", "refuted", "blocked", "untested"]
WORDS: tuple[Word, ...] = ("reproduced", "explained", "refuted", "blocked", "untested")


@dataclass(frozen=True)
class Verdict:
    """A word, and what it rests on.

    Attributes:
        word: `reproduced` within the printed rounding (counts) or by a t-test (accuracies); `explained` by another
            convention; `refuted`; `blocked` when something is missing; `untested` when nothing is but the record.
        reason: in words; for `blocked`, what would unblock it.
        ours: our value, in the claim's unit; for `explained`, the honest count.
        low, high: interval of `ours`, equal for a count.
        convention: the way of counting that gives the published number.
        records: ids of the records behind it.
    """

    word: Word
    reason: str
    ours: float | None = None
    low: float | None = None
    high: float | None = None
    convention: str | None = None
    records: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """No verdict without its ground."""
        if not self.reason:
            raise ValueError(f"a verdict {self.word!r} needs a reason")
        if self.word in ("reproduced", "explained", "refuted") and not self.records:
            raise ValueError(f"a verdict {self.word!r} needs records")
