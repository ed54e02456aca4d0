"""Part 2: back ends of the scan against one another, over the shapes that models use."""

from collections.abc import Iterator, Sequence

from posescale.campaign.cell import Context
from posescale.measure.latency import latency_of
from posescale.measure.plan import Plan
from posescale.measure.scan_subject import ScanShape, scan_cell
from posescale.records import Record


def scan(
    context: Context, label: str, channels: int, states: int, rank: int, lengths: Sequence[int],
    batches: Sequence[int], backends: Sequence[str], directions: int = 4, sources: int = 2,
    passes: Sequence[str] = ("forward", "forward+backward"), caches: Sequence[str] = ("warm",), mode: str = "eager",
    dtype: str = "float32", rounds: int = 3, seconds: float = 3.4, timeout: float = 120.0,
) -> Iterator[Record]:  # fmt: skip
    """Time, bytes per second and the share of a plain copy's rate: all back ends in one interleaved session.

    Args:
        context: device and study.
        label: of the shapes' owner, such as `PoseMamba-S`.
        channels, states, rank, directions, sources: D, N, R, K, S.
        lengths, batches: L and B; every pair is a shape.
        backends, passes, caches: every combination is a row at every shape.
        mode, dtype, rounds, seconds, timeout: as in `posescale.measure.latency`.

    Yields:
        records of kind `operator`.
    """
    cells = [
        scan_cell(ScanShape(batch, length, channels, states, rank, directions, sources), backend, which, cache, label)
        for length in lengths for batch in batches for which in passes for cache in caches for backend in backends
    ]  # fmt: skip
    plan = Plan(1, context.device, dtype, mode, seconds, timeout, None, 0, context.study)
    yield from latency_of(cells, plan, rounds, proceed=context.another_round())
