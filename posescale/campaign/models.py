"""Part 3: latency, throughput and memory of models by name, over T, batch, resolution, mode, type and attention."""

from collections.abc import Iterator, Sequence
from typing import Any

from posescale.campaign.cell import Context
from posescale.measure.frontier import frontier as climb
from posescale.measure.latency import latency as time_models
from posescale.measure.memory import memory as weigh_models
from posescale.records import Record


def latency(context: Context, models: Sequence[str], frames: Sequence[int], **settings: Any) -> Iterator[Record]:
    """One interleaved session; settings as of `posescale.measure.latency`."""
    shared = {"device": context.device, "study": context.study, "proceed": context.another_round()}
    yield from time_models(models, frames, **shared, **settings)


def memory(context: Context, models: Sequence[str], frames: Sequence[int], **settings: Any) -> Iterator[Record]:
    """Peak memory of one forward pass, each in a fresh process; settings as of `posescale.measure.memory`."""
    yield from weigh_models(models, frames, device=context.device, study=context.study, **settings)


def frontier(context: Context, model: str, **settings: Any) -> Iterator[Record]:
    """The largest clip, batch or picture; settings as of `posescale.measure.frontier`."""
    yield climb(model, device=context.device, study=context.study, **settings)


def throughput(
    context: Context, model: str, frames: int, most: int, mode: str = "eager", dtype: str = "float32",
    attention: str | None = None, rounds: int = 3, seconds: float = 3.4, timeout: float = 120.0,
    overrides: dict[str, Any] | None = None,
) -> Iterator[Record]:  # fmt: skip
    """The batch at which clips go through fastest, found by doubling, and then that batch timed by the rules.

    Args:
        context: device and study.
        model, frames: id and T.
        most: largest batch tried.
        mode, dtype, attention, rounds, seconds, timeout, overrides: as in `posescale.measure.latency`; the search
            itself runs eagerly.

    Yields:
        the search, of kind `memory`, and the timing at its best batch, of kind `latency`.
    """
    shared = {"frames": frames, "dtype": dtype, "attention": attention, "timeout": timeout, "overrides": overrides,
              "device": context.device, "study": context.study}  # fmt: skip
    found = climb(model, "batch", 1, most, **shared)
    yield found
    best = next((int(v.value) for v in found.values if v.name == "best_batch"), None)
    if best is not None:
        shared["frames"] = [frames]
        shared["proceed"] = context.another_round()
        yield from time_models([model], batch=best, mode=mode, rounds=rounds, seconds=seconds, **shared)
