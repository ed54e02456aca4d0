"""The ledger of published numbers: what each of them means, by our own count or measurement.

`papers/` holds the numbers as printed, with their conditions and where they were found. Verdicts are computed from
records. Nothing here imports torch.
"""

from posescale.claims.ledger import judge, ledger_rows, summary, to_count
from posescale.claims.matching import Cell, Evidence, sort
from posescale.claims.means import Means, Standing, look
from posescale.claims.schema import Claim, load_claims, read_paper
from posescale.claims.verdict import WORDS, Verdict

__all__ = [
    "WORDS", "Cell", "Claim", "Evidence", "Means", "Standing", "Verdict", "judge", "ledger_rows", "load_claims", "look",
    "read_paper", "sort", "summary", "to_count",
]  # fmt: skip
