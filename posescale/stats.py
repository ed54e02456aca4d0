"""Statistics of timings, errors and scaling laws. NumPy and SciPy only: reports build without torch.

Intervals are 95 % unless another confidence is asked for; random draws start from a stated seed, so that a table
built twice from the same records shows the same digits.
"""

import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

CONFIDENCE = 0.95
Verdict = Literal["FASTER", "SLOWER", "SAME", "AMBIGUOUS"]


class Estimate(NamedTuple):
    """A value with the bounds of its interval; unbounded sides are infinite."""

    value: float
    low: float
    high: float

    @property
    def half_width(self) -> float:
        """Half the interval's width as a share of the value."""
        return (self.high - self.low) / (2 * abs(self.value)) if self.value else math.inf


def _sample(values: ArrayLike, least: int = 1) -> NDArray[np.float64]:
    array = np.asarray(values, dtype=np.float64).ravel()
    if array.size < least:
        raise ValueError(f"at least {least} values are needed, found {array.size}")
    if not np.isfinite(array).all():
        raise ValueError("values must be finite; leave failed measurements out before summarising")
    return array


# Percentiles


def percentile_interval(samples: ArrayLike, percent: float, confidence: float = CONFIDENCE) -> Estimate:
    """A percentile with its order-statistic interval, which assumes nothing about the distribution.

    The number of samples below the true percentile is binomial, so two order statistics enclose it with at least
    the confidence asked for. A side on which no order statistic suffices is infinite: too few samples. Samples of any
    shape are flattened; value and bounds have their unit.

    Raises:
        ValueError: no samples, or a percent outside 0 to 100.
    """
    if not 0 < percent < 100:
        raise ValueError(f"percent must lie between 0 and 100, found {percent}")
    ordered = np.sort(_sample(samples))
    tail, below = (1 - confidence) / 2, stats.binom(ordered.size, percent / 100)
    # The interval (x_(l), x_(u)) misses when fewer than l or at least u samples lie below the percentile.
    lower = int(below.ppf(tail))
    upper = int(below.isf(tail)) + 1
    low = ordered[lower - 1] if lower >= 1 else -math.inf
    high = ordered[upper - 1] if upper <= ordered.size else math.inf
    return Estimate(float(np.percentile(ordered, percent)), float(low), float(high))


def samples_needed(percent: float, confidence: float = 0.99) -> int:
    """Samples before a percentile may be stated: MLPerf's early stopping with tolerance 0 and one sample above.

    The smallest n for which at most one of n samples above the percentile has probability 1 - confidence or less.

    Raises:
        ValueError: a percent outside 0 to 100, or a confidence outside 0 to 1.
    """
    quantile, alpha = percent / 100, 1 - confidence
    if not 0 < quantile < 1 or not 0 < confidence < 1:
        raise ValueError(f"percent and confidence must be proper fractions, found {percent} % and {confidence}")
    low, high = 1, 2
    while stats.binom.cdf(1, high, 1 - quantile) > alpha:
        low, high = high, high * 2
    while high - low > 1:  # the probability falls with n
        middle = (low + high) // 2
        low, high = (middle, high) if stats.binom.cdf(1, middle, 1 - quantile) > alpha else (low, middle)
    return high


# Bootstraps


def _interval(value: float, draws: NDArray[np.float64], confidence: float) -> Estimate:
    low, high = np.quantile(draws, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Estimate(float(value), float(low), float(high))


def bootstrap_median(
    rounds: Sequence[ArrayLike], draws: int = 1000, seed: int = 0, confidence: float = CONFIDENCE
) -> Estimate:
    """The median of all samples with a hierarchical bootstrap interval: rounds are drawn first, then samples in them.

    Args:
        rounds: the samples of each round (or process); rounds may differ in length.
        draws, seed, confidence: of the bootstrap.

    Raises:
        ValueError: no round, an empty one, or values that are not finite.
    """
    groups = [_sample(r) for r in rounds]
    if not groups:
        raise ValueError("at least one round is needed")
    random = np.random.default_rng(seed)
    medians = np.array([np.median(_redraw(groups, _choice(random, len(groups)), random)) for _ in range(draws)])
    return _interval(np.median(np.concatenate(groups)), medians, confidence)


def bootstrap_ratio(
    rounds: Sequence[ArrayLike],
    reference: Sequence[ArrayLike],
    draws: int = 1000,
    seed: int = 0,
    confidence: float = CONFIDENCE,
) -> Estimate:
    """Median of `rounds` over median of `reference`, both timed in the same rounds, with a hierarchical interval.

    Rounds are drawn for both together, so that what slows a whole round down cancels. Arguments
    and errors as in `bootstrap_median`; other numbers of rounds are a ValueError too.
    """
    ours, theirs = [_sample(r) for r in rounds], [_sample(r) for r in reference]
    if not ours or len(ours) != len(theirs):
        raise ValueError(f"both need samples of the same rounds, found {len(ours)} and {len(theirs)}")
    random = np.random.default_rng(seed)

    def draw() -> float:
        chosen = _choice(random, len(ours))
        return float(np.median(_redraw(ours, chosen, random)) / np.median(_redraw(theirs, chosen, random)))

    value = np.median(np.concatenate(ours)) / np.median(np.concatenate(theirs))
    return _interval(value, np.array([draw() for _ in range(draws)]), confidence)


def _choice(random: np.random.Generator, count: int) -> NDArray[np.int64]:
    return random.integers(count, size=count)


def _redraw(
    groups: Sequence[NDArray[np.float64]], chosen: NDArray[np.int64], random: np.random.Generator
) -> NDArray[np.float64]:
    return np.concatenate([groups[i][_choice(random, groups[i].size)] for i in chosen])


def bootstrap_mean(
    values: ArrayLike,
    weights: ArrayLike | None = None,
    clusters: Sequence[str] | None = None,
    draws: int = 10_000,
    seed: int = 0,
    confidence: float = CONFIDENCE,
) -> Estimate:
    """Mean over sequences (weighted, such as by their frames) with an interval from redrawing whole sequences.

    Args:
        values, weights: one of each per sequence.
        clusters: sequences of one name are not independent (several cameras saw one performance): they are redrawn
            together. Each is on its own when not given.
        draws, seed, confidence: of the bootstrap.

    Raises:
        ValueError: values that are not finite, other lengths, or weights that are negative or all zero.
    """
    array = _sample(values)
    mass = np.ones_like(array) if weights is None else _sample(weights)
    if mass.shape != array.shape or (mass < 0).any() or mass.sum() == 0:
        raise ValueError(f"weights must be {array.size} non-negative numbers, not all zero")
    sums, masses = _together(array * mass, mass, clusters)
    chosen = np.random.default_rng(seed).integers(sums.size, size=(draws, sums.size))
    totals = masses[chosen].sum(axis=1)
    kept = totals > 0  # a draw of weightless sequences only has no mean
    means = sums[chosen].sum(axis=1)[kept] / totals[kept]
    return _interval(np.average(array, weights=mass), means, confidence)


def _together(
    weighted: NDArray[np.float64], mass: NDArray[np.float64], clusters: Sequence[Hashable] | None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Sums of weighted values and of weights by cluster, in the clusters' order of appearance."""
    if clusters is None:
        return weighted, mass
    if len(clusters) != weighted.size:
        raise ValueError(f"{weighted.size} values and {len(clusters)} clusters; expected as many of each")
    number = {name: n for n, name in enumerate(dict.fromkeys(clusters))}
    place = [number[name] for name in clusters]
    return np.bincount(place, weighted), np.bincount(place, mass)


def bootstrap_grouped(
    values: ArrayLike,
    weights: ArrayLike,
    groups: Sequence[str],
    clusters: Sequence[str] | None = None,
    draws: int = 2000,
    seed: int = 0,
    confidence: float = CONFIDENCE,
) -> Estimate:
    """Mean over groups (such as actions) of the weighted mean over each group's sequences, with an interval.

    Whole sequences are redrawn, each group's among themselves, those of one cluster together as in `bootstrap_mean`. A
    group of one cluster adds no width.

    Raises:
        ValueError: values that are not finite, or other lengths.
    """
    array, mass = _sample(values), _sample(weights)
    together = range(array.size) if clusters is None else clusters
    if not array.size == mass.size == len(groups) == len(together):
        found = f"{array.size} values, {mass.size} weights, {len(groups)} groups and {len(together)} clusters"
        raise ValueError(f"{found}; expected as many of each")
    random, names = np.random.default_rng(seed), np.asarray(groups)
    total, means = 0.0, np.zeros(draws)
    kinds = list(dict.fromkeys(groups))
    for kind in kinds:
        own = np.flatnonzero(names == kind)
        sums, masses = _together(array[own] * mass[own], mass[own], [together[n] for n in own])
        chosen = random.integers(sums.size, size=(draws, sums.size))
        total += float(np.average(array[own], weights=mass[own]))
        means += sums[chosen].sum(axis=1) / masses[chosen].sum(axis=1)
    return _interval(total / len(kinds), means / len(kinds), confidence)


def paired_bootstrap(
    ours: ArrayLike,
    theirs: ArrayLike,
    weights: ArrayLike | None = None,
    clusters: Sequence[str] | None = None,
    draws: int = 10_000,
    seed: int = 0,
    confidence: float = CONFIDENCE,
) -> Estimate:
    """Mean difference `ours - theirs` over the same N sequences; the models differ when the interval excludes 0.

    Other arguments and errors as in `bootstrap_mean`; `ours` and `theirs` of other lengths are a ValueError too.
    """
    a, b = _sample(ours), _sample(theirs)
    if a.shape != b.shape:
        raise ValueError(f"paired values must belong to the same sequences, found {a.size} and {b.size}")
    return bootstrap_mean(a - b, weights, clusters, draws, seed, confidence)


def crossed_bootstrap(
    ours: ArrayLike,
    theirs: ArrayLike,
    weights: ArrayLike | None = None,
    clusters: Sequence[str] | None = None,
    paired: bool = False,
    draws: int = 2000,
    seed: int = 0,
    confidence: float = CONFIDENCE,
) -> Estimate:
    """Difference of weighted means `ours - theirs` with an interval over seeds and sequences: both are redrawn.

    A single seed adds no width of its own: the interval then speaks of sequences alone.

    Args:
        ours: (S, N) values by seed and sequence.
        theirs: (R, N), the same sequences.
        weights: (N,) of the sequences, such as their joints; all alike when not given.
        clusters: (N,) as in `bootstrap_mean`.
        paired: both are the same S trained models, under two conditions: they are redrawn together.
        draws, seed, confidence: of the bootstrap.

    Raises:
        ValueError: other shapes, or values that are not finite.
    """
    a, b = np.atleast_2d(np.asarray(ours, np.float64)), np.atleast_2d(np.asarray(theirs, np.float64))
    mass = np.ones(a.shape[1]) if weights is None else _sample(weights)
    if a.shape[1] != b.shape[1] or mass.size != a.shape[1] or (paired and a.shape != b.shape):
        raise ValueError(f"values of the same sequences are needed, found {a.shape}, {b.shape} and {mass.size} weights")
    if not (np.isfinite(a).all() and np.isfinite(b).all()) or (mass < 0).any() or mass.sum() == 0:
        raise ValueError("values must be finite, and weights non-negative and not all zero")
    random = np.random.default_rng(seed)

    def shares(count: int) -> NDArray[np.float64]:
        return random.multinomial(count, np.full(count, 1 / count), size=draws) / count

    value = np.average(a.mean(axis=0) - b.mean(axis=0), weights=mass)
    a, b = (np.stack([_together(row * mass, mass, clusters)[0] for row in rows]) for rows in (a, b))
    masses = _together(mass, mass, clusters)[1]
    ours_drawn, sequences = shares(len(a)), shares(masses.size)
    theirs_drawn = ours_drawn if paired else shares(len(b))
    gaps, totals = ((ours_drawn @ a - theirs_drawn @ b) * sequences).sum(axis=1), sequences @ masses
    kept = totals > 0  # a draw of weightless sequences only has no mean
    return _interval(value, gaps[kept] / totals[kept], confidence)


def t_interval(values: ArrayLike, confidence: float = CONFIDENCE) -> Estimate:
    """Mean over seeds with Student's interval; a single seed has an unbounded one.

    Raises:
        ValueError: no value, or one that is not finite.
    """
    array = _sample(values)
    mean = float(array.mean())
    if array.size == 1:
        return Estimate(mean, -math.inf, math.inf)
    half = stats.t.ppf((1 + confidence) / 2, array.size - 1) * array.std(ddof=1) / math.sqrt(array.size)
    return Estimate(mean, mean - float(half), mean + float(half))


# Comparing timings


def compare(
    contender: Sequence[ArrayLike],
    reference: Sequence[ArrayLike],
    alpha: float = 0.002,
    gap: float = 0.02,
    estimate: Callable[[Sequence[ArrayLike]], Estimate] = bootstrap_median,
) -> Verdict:
    """Whether the contender's times (by round) are shorter than the reference's.

    FASTER or SLOWER needs both a Mann-Whitney p-value below `alpha` and medians whose intervals lie at least `gap` of
    the reference's median apart. SAME means that every ratio the intervals allow is within `gap` of 1. What remains is
    AMBIGUOUS: more samples are needed.
    """
    ours, theirs = estimate(contender), estimate(reference)
    a, b = (np.concatenate([_sample(r) for r in rounds]) for rounds in (contender, reference))
    significant = stats.mannwhitneyu(a, b, alternative="two-sided").pvalue < alpha
    if significant and theirs.low - ours.high >= gap * theirs.value:
        return "FASTER"
    if significant and ours.low - theirs.high >= gap * theirs.value:
        return "SLOWER"
    if ours.low / theirs.high >= 1 - gap and ours.high / theirs.low <= 1 + gap:
        return "SAME"
    return "AMBIGUOUS"


# Scaling laws


@dataclass(frozen=True)
class PowerLaw:
    """y = scale * x ** exponent, fitted by least squares in log-log coordinates.

    `covariance` is that of (ln scale, exponent); `residual` the standard deviation of ln y about the line;
    `freedom` the points beyond two. With two points the interval of the exponent is unbounded.
    """

    scale: float
    exponent: Estimate
    covariance: tuple[tuple[float, float], tuple[float, float]]
    residual: float
    freedom: int

    def predict(self, x: ArrayLike) -> NDArray[np.float64]:
        """The law's value at x."""
        return self.scale * np.asarray(x, dtype=np.float64) ** self.exponent.value


def power_law(x: ArrayLike, y: ArrayLike, confidence: float = CONFIDENCE) -> PowerLaw:
    """Fit y = scale * x ** exponent with an interval for the exponent.

    Raises:
        ValueError: fewer than two different x, or a value that is not positive.
    """
    xs, ys = _sample(x, 2), _sample(y, 2)
    if xs.shape != ys.shape or (xs <= 0).any() or (ys <= 0).any() or np.unique(xs).size < 2:
        raise ValueError("a power law needs positive x and y, one y per x, and at least two different x")
    u, v = np.log(xs), np.log(ys)
    centre, spread = u.mean(), ((u - u.mean()) ** 2).sum()
    slope = float(((u - centre) * (v - v.mean())).sum() / spread)
    intercept = float(v.mean() - slope * centre)
    freedom = xs.size - 2
    variance = float(((v - intercept - slope * u) ** 2).sum() / freedom) if freedom else 0.0
    slope_variance = variance / spread
    covariance = (
        (variance / xs.size + centre**2 * slope_variance, -centre * slope_variance),
        (-centre * slope_variance, slope_variance),
    )
    half = float(stats.t.ppf((1 + confidence) / 2, freedom) * math.sqrt(slope_variance)) if freedom else math.inf
    exponent = Estimate(slope, slope - half, slope + half)
    return PowerLaw(math.exp(intercept), exponent, covariance, math.sqrt(variance), freedom)


def crossover(a: PowerLaw, b: PowerLaw, confidence: float = CONFIDENCE) -> Estimate | None:
    """The x at which two fitted laws meet, with Fieller's interval; None for laws of equal exponent.

    ln x is a ratio of two normal variables (difference of intercepts over difference of exponents). The interval is
    0 to infinity when the exponents do not differ significantly: the data do not say where, or whether, the laws meet.
    """
    top = math.log(b.scale) - math.log(a.scale)
    bottom = a.exponent.value - b.exponent.value
    if bottom == 0:
        return None
    where = _exp(top / bottom)
    freedom = min(a.freedom, b.freedom)
    if freedom == 0:
        return Estimate(where, 0.0, math.inf)
    pooled = np.add(a.covariance, b.covariance)
    t2 = float(stats.t.ppf((1 + confidence) / 2, freedom)) ** 2
    # Fieller: all q with (top - q bottom)^2 <= t^2 Var(top - q bottom); here cov(top, bottom) is minus the pooled one.
    square = bottom**2 - t2 * pooled[1, 1]
    linear = top * bottom + t2 * pooled[0, 1]
    constant = top**2 - t2 * pooled[0, 0]
    if square <= 0:
        return Estimate(where, 0.0, math.inf)
    root = math.sqrt(max(linear**2 - square * constant, 0.0))
    return Estimate(where, _exp((linear - root) / square), _exp((linear + root) / square))


def _exp(exponent: float) -> float:
    return math.exp(exponent) if exponent < 700 else math.inf
