import math

import numpy as np
import pytest
from scipy import stats as scipy_stats

from posescale import stats


@pytest.mark.parametrize(("percent", "needed"), [(90, 64), (95, 130), (99, 662), (99.9, 6636)])
def test_early_stopping_sizes_are_mlperfs(percent, needed):
    assert stats.samples_needed(percent) == needed
    share = 1 - percent / 100
    assert scipy_stats.binom.cdf(1, needed, share) <= 0.01 < scipy_stats.binom.cdf(1, needed - 1, share)


@pytest.mark.parametrize("percent", [0, 100, -3])
def test_percent_outside_is_refused(percent):
    with pytest.raises(ValueError, match="percent"):
        stats.percentile_interval([1.0, 2.0], percent)
    with pytest.raises(ValueError, match="percent"):
        stats.samples_needed(percent)


def test_median_interval_of_known_ranks():
    # n = 10: ranks 2 and 9 enclose the median with 97.85 %, ranks 3 and 8 with 89 % only.
    assert stats.percentile_interval(np.arange(1, 11), 50) == (5.5, 2, 9)
    # n = 5: the extremes enclose it with 93.75 % only, so neither side has a bound at 95 %.
    assert stats.percentile_interval(np.arange(5), 50) == (2, -math.inf, math.inf)
    assert stats.percentile_interval(np.arange(5), 50, confidence=0.9) == (2, 0, 4)


@pytest.mark.parametrize("percent", [50, 90, 99])
@pytest.mark.parametrize("n", [8, 51, 400])
def test_percentile_interval_ranks_are_the_tightest_that_cover(percent, n):
    below = scipy_stats.binom(n, percent / 100)
    _, low, high = stats.percentile_interval(np.arange(1, n + 1), percent)
    lower = 0 if math.isinf(low) else int(low)
    assert lower == max(rank for rank in range(n + 1) if rank == 0 or below.cdf(rank - 1) <= 0.025)
    upper = n + 1 if math.isinf(high) else int(high)
    assert upper == min(rank for rank in range(1, n + 2) if rank == n + 1 or below.sf(rank - 1) <= 0.025)


def test_percentile_interval_covers():
    random = np.random.default_rng(1)
    truth = scipy_stats.expon.ppf(0.9)
    hits = [low <= truth <= high for _, low, high in
            (stats.percentile_interval(random.exponential(size=120), 90) for _ in range(600))]  # fmt: skip
    assert np.mean(hits) > 0.93


@pytest.mark.parametrize("function", [stats.t_interval, stats.bootstrap_mean, lambda v: stats.bootstrap_median([v])])
@pytest.mark.parametrize("values", [[], [1.0, math.nan], [math.inf]])
def test_empty_or_unfinished_samples_are_refused(function, values):
    with pytest.raises(ValueError, match="values"):
        function(values)


def test_median_bootstrap_of_constants_has_no_width():
    assert stats.bootstrap_median([[3.0] * 4, [3.0] * 9]) == (3, 3, 3)
    assert stats.bootstrap_median([[3.0] * 4]).half_width == 0


def test_median_bootstrap_is_seeded_and_contains_the_median():
    rounds = np.random.default_rng(0).gamma(9, size=(4, 25))
    first = stats.bootstrap_median(rounds, seed=5)
    assert first == stats.bootstrap_median(rounds, seed=5)
    assert first != stats.bootstrap_median(rounds, seed=6)
    assert first.low <= first.value == np.median(rounds) <= first.high


def test_median_bootstrap_sees_the_spread_between_rounds():
    random = np.random.default_rng(0)
    within = random.normal(10, 0.1, size=(3, 200))
    shifted = within + np.array([[-1.0], [0.0], [1.0]])
    alike, apart = stats.bootstrap_median(within), stats.bootstrap_median(shifted)
    assert apart.high - apart.low > 10 * (alike.high - alike.low)


def test_median_bootstrap_covers():
    random = np.random.default_rng(2)

    def experiment() -> bool:
        rounds = 5 + random.normal(0, 0.3, size=(8, 1)) + random.normal(0, 1, size=(8, 30))
        _, low, high = stats.bootstrap_median(rounds, draws=200)
        return low <= 5 <= high

    assert 0.85 < np.mean([experiment() for _ in range(150)])


def test_ratio_cancels_what_slows_a_round_down():
    random = np.random.default_rng(3)
    load = np.array([[1.0], [1.5], [2.5]])
    ours, theirs = (mean * load * random.normal(1, 0.005, size=(3, 60)) for mean in (2.0, 1.0))
    ratio = stats.bootstrap_ratio(ours, theirs)
    assert ratio.value == pytest.approx(2, rel=0.02)
    assert 1.9 < ratio.low <= ratio.high < 2.1
    with pytest.raises(ValueError, match="same rounds"):
        stats.bootstrap_ratio(ours, theirs[:2])


def test_bootstrap_mean_matches_the_normal_interval():
    values = np.random.default_rng(4).normal(40, 5, size=200)
    mean = stats.bootstrap_mean(values)
    half = 1.96 * values.std() / math.sqrt(values.size)
    assert mean.value == pytest.approx(values.mean())
    assert (mean.low, mean.high) == (
        pytest.approx(mean.value - half, abs=0.1),
        pytest.approx(mean.value + half, abs=0.1),
    )


def test_bootstrap_mean_weights():
    assert stats.bootstrap_mean([1, 5], weights=[3, 1]).value == 2
    assert stats.bootstrap_mean([1, 5], weights=[1, 0]) == (1, 1, 1)
    for weights in ([1, -1], [0, 0], [1]):
        with pytest.raises(ValueError, match="weights"):
            stats.bootstrap_mean([1, 5], weights=weights)


def test_bootstrap_mean_covers():
    random = np.random.default_rng(5)
    intervals = (stats.bootstrap_mean(random.exponential(size=60), draws=400, seed=i) for i in range(300))
    assert np.mean([low <= 1 <= high for _, low, high in intervals]) > 0.88


def test_pairing_finds_a_small_difference_in_a_large_spread():
    random = np.random.default_rng(6)
    base = random.normal(40, 15, size=80)
    difference = stats.paired_bootstrap(base + 0.5 + random.normal(0, 0.5, 80), base)
    assert 0 < difference.low < 0.5 < difference.high < 0.8
    with pytest.raises(ValueError, match="same sequences"):
        stats.paired_bootstrap([1, 2], [1])


def test_t_interval():
    assert stats.t_interval([41.0]) == (41, -math.inf, math.inf)
    interval = stats.t_interval([1, 2, 3])
    half = 4.302652729911275 / math.sqrt(3)
    assert interval == pytest.approx((2, 2 - half, 2 + half))
    random = np.random.default_rng(7)
    hits = [low <= 0 <= high for _, low, high in (stats.t_interval(random.normal(size=3)) for _ in range(800))]
    assert 0.92 < np.mean(hits) < 0.98


def _rounds(median: float, noise: float, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(median, noise, size=(3, 60))


@pytest.mark.parametrize(
    ("ours", "noise", "expected"),
    [(0.9, 0.01, "FASTER"), (1.1, 0.01, "SLOWER"), (1.0, 0.01, "SAME"), (1.01, 0.004, "SAME"), (1.0, 0.5, "AMBIGUOUS")],
)
def test_verdicts(ours, noise, expected):
    assert stats.compare(_rounds(ours, noise, 1), _rounds(1.0, noise, 2)) == expected


def test_a_significant_but_small_difference_is_not_faster():
    ours, theirs = _rounds(0.985, 0.003, 1), _rounds(1.0, 0.003, 2)
    assert scipy_stats.mannwhitneyu(ours.ravel(), theirs.ravel()).pvalue < 0.002
    assert stats.compare(ours, theirs) == "SAME"


def test_a_large_difference_of_few_samples_is_not_faster():
    assert stats.compare([[1.0], [1.0], [1.0]], [[2.0], [2.0], [2.0]]) == "AMBIGUOUS"


def test_power_law_is_exact_on_exact_data():
    law = stats.power_law([9, 27, 81, 243], 0.25 * np.array([9, 27, 81, 243.0]) ** 1.5)
    assert law.scale == pytest.approx(0.25)
    assert law.exponent == pytest.approx((1.5, 1.5, 1.5))
    assert law.predict(4.0) == pytest.approx(2.0)


def test_power_law_interval_is_the_regressions():
    random = np.random.default_rng(8)
    x = np.geomspace(9, 2187, 6)
    y = 3 * x**1.2 * np.exp(random.normal(0, 0.1, x.size))
    law, line = stats.power_law(x, y), scipy_stats.linregress(np.log(x), np.log(y))
    half = scipy_stats.t.ppf(0.975, 4) * line.stderr
    assert law.exponent == pytest.approx((line.slope, line.slope - half, line.slope + half))
    assert law.scale == pytest.approx(math.exp(line.intercept))
    assert law.covariance[0][0] == pytest.approx(line.intercept_stderr**2)


def test_power_law_interval_covers():
    random = np.random.default_rng(9)
    x = np.array([9, 27, 81, 243, 729.0])
    laws = (stats.power_law(x, x**1.1 * np.exp(random.normal(0, 0.05, 5))) for _ in range(800))
    assert 0.92 < np.mean([law.exponent.low <= 1.1 <= law.exponent.high for law in laws]) < 0.98


def test_two_points_give_a_law_without_certainty():
    law = stats.power_law([1, 10], [1, 100])
    assert law.exponent == (pytest.approx(2), -math.inf, math.inf)


@pytest.mark.parametrize(("x", "y"), [([1, 2], [0, 1]), ([-1, 2], [1, 1]), ([3, 3], [1, 2]), ([1, 2, 3], [1, 2])])
def test_power_law_refuses(x, y):
    with pytest.raises(ValueError, match="power law"):
        stats.power_law(x, y)


def test_crossover_of_exact_laws():
    x = np.array([9, 27, 81, 243.0])
    where = stats.crossover(stats.power_law(x, 100 * x), stats.power_law(x, x**2))
    assert where == pytest.approx((100, 100, 100))
    assert stats.crossover(stats.power_law([1, 2, 4], [1, 2, 4]), stats.power_law([1, 2, 4], [3, 6, 12])) is None


def test_crossover_of_indistinct_laws_is_anywhere():
    random = np.random.default_rng(10)
    x = np.array([9, 27, 81, 243.0])
    a, b = (stats.power_law(x, x * np.exp(random.normal(0, 0.3, 4))) for _ in range(2))
    assert stats.crossover(a, b)[1:] == (0, math.inf)
    pair = stats.power_law([1, 2], [1, 2]), stats.power_law([1, 2], [0.5, 2])
    assert stats.crossover(*pair) == (pytest.approx(2), 0, math.inf)


def test_crossover_interval_covers():
    random = np.random.default_rng(11)
    x = np.array([9, 27, 81, 243, 729.0])

    def experiment() -> bool:
        a, b = (law * np.exp(random.normal(0, 0.05, 5)) for law in (100 * x, x**1.8))
        _, low, high = stats.crossover(stats.power_law(x, a), stats.power_law(x, b))
        return low <= 100 ** (1 / 0.8) <= high

    assert np.mean([experiment() for _ in range(500)]) > 0.93


def test_grouped_bootstrap_is_the_mean_of_group_means():
    values, weights, groups = [1.0, 3.0, 10.0], [1, 3, 5], ["a", "a", "b"]
    found = stats.bootstrap_grouped(values, weights, groups)
    assert found.value == pytest.approx((2.5 + 10) / 2)
    assert (found.low, found.high) == pytest.approx(((1 + 10) / 2, (3 + 10) / 2))  # group b has nothing to redraw
    same = stats.bootstrap_grouped(values, weights, [""] * 3)
    assert same.value == pytest.approx(np.average(values, weights=weights)) and same.low < same.value < same.high
    assert stats.bootstrap_grouped(values, weights, groups) == found
    with pytest.raises(ValueError, match="as many of each"):
        stats.bootstrap_grouped(values, weights, ["a"])


class TestClusters:
    """Four cameras of one performance are one observation, not four."""

    def test_copies_add_no_certainty(self):
        once = np.random.default_rng(0).normal(10, 2, 12)
        four, names = np.repeat(once, 4), [f"p{n // 4}" for n in range(48)]
        assert stats.bootstrap_mean(four, clusters=names) == pytest.approx(stats.bootstrap_mean(once))
        assert stats.bootstrap_mean(four).half_width < 0.6 * stats.bootstrap_mean(once).half_width
        pair = stats.paired_bootstrap(four, four - np.repeat(once > 10, 4), clusters=names)
        assert pair == pytest.approx(stats.paired_bootstrap(once, once - (once > 10)))

    def test_in_groups(self):
        once, groups = [1.0, 3.0, 10.0, 14.0], ["a", "a", "b", "b"]
        found = stats.bootstrap_grouped(np.repeat(once, 2), [1] * 8, np.repeat(groups, 2).tolist(), list("ppqqrrss"))
        assert found == pytest.approx(stats.bootstrap_grouped(once, [1] * 4, groups))

    def test_each_alone_is_no_clusters_at_all(self):
        values, weights, names, groups = [1.0, 3.0, 10.0], [1, 3, 5], ["x", "y", "z"], ["a", "a", "b"]
        assert stats.bootstrap_mean(values, weights, names) == stats.bootstrap_mean(values, weights)
        grouped = stats.bootstrap_grouped(values, weights, groups)
        assert stats.bootstrap_grouped(values, weights, groups, names) == grouped

    def test_cameras_weigh_by_their_frames_and_the_mean_stays(self):
        found = stats.bootstrap_mean([1.0, 5.0, 3.0], [3, 1, 4], ["p", "p", "q"])
        assert found == pytest.approx((2.5, 2.0, 3.0))

    def test_lengths_must_agree(self):
        with pytest.raises(ValueError, match="3 values and 2 clusters"):
            stats.bootstrap_mean([1, 2, 3], clusters=["a", "b"])
        with pytest.raises(ValueError, match="as many of each"):
            stats.bootstrap_grouped([1, 2, 3], [1, 1, 1], ["a"] * 3, ["a", "b"])

    def test_intervals_cover_the_truth_where_cameras_agree(self):
        random = np.random.default_rng(3)
        names = [str(n // 4) for n in range(160)]
        covered = {True: 0, False: 0}
        for trial in range(300):
            seen = np.repeat(random.normal(0, 1, 40), 4) + random.normal(0, 0.2, 160)
            for together in covered:
                found = stats.bootstrap_mean(seen, clusters=names if together else None, draws=400, seed=trial)
                covered[together] += found.low <= 0 <= found.high
        assert covered[True] > 0.9 * 300 and covered[False] < 0.8 * 300


def test_a_crossed_bootstrap_knows_both_where_seeds_and_where_sequences_scatter():
    random = np.random.default_rng(0)
    same = random.standard_normal(40)
    still = np.tile(same, (3, 1))
    zero = stats.crossed_bootstrap(still, still, paired=True)
    assert zero == (0, 0, 0)
    by_seed = stats.crossed_bootstrap(still + np.array([[-3.0], [0.0], [3.0]]), still)
    assert by_seed.value == pytest.approx(0) and by_seed.low < -1 and by_seed.high > 1
    one = stats.crossed_bootstrap(still[:1] + 5, still[:1])
    assert one.low == pytest.approx(5) == one.high  # nothing scatters within one pair of rows that differ by 5


def test_a_crossed_bootstrap_redraws_clusters_whole():
    once = np.random.default_rng(2).standard_normal((3, 12))
    names = [str(n // 4) for n in range(48)]
    found = stats.crossed_bootstrap(np.repeat(once, 4, axis=1), np.zeros((3, 48)), clusters=names)
    assert found == pytest.approx(stats.crossed_bootstrap(once, np.zeros((3, 12))))


def test_a_crossed_bootstrap_weighs_sequences_and_covers_a_true_difference():
    heavy = stats.crossed_bootstrap([[1.0, 0.0]], [[0.0, 0.0]], weights=[3, 1])
    assert heavy.value == pytest.approx(0.75)
    random, hits = np.random.default_rng(1), 0
    for trial in range(60):
        gap = 1.0 + 0.5 * random.standard_normal(30)
        ours = 0.3 * random.standard_normal((5, 1)) + gap + 0.1 * random.standard_normal((5, 30))
        theirs = 0.3 * random.standard_normal((5, 1)) + 0.1 * random.standard_normal((5, 30))
        found = stats.crossed_bootstrap(ours, theirs, draws=400, seed=trial)
        hits += found.low <= 1.0 <= found.high
    assert hits >= 49  # 95 % of 60, less what five seeds and chance allow


@pytest.mark.parametrize(
    ("ours", "theirs", "options"),
    [
        ([[1.0, 2.0]], [[1.0]], {}),
        ([[1.0, np.nan]], [[1.0, 2.0]], {}),
        ([[1.0, 2.0]], [[1.0, 2.0]], {"weights": [0, 0]}),
        ([[1.0, 2.0]], [[1.0, 2.0], [1.0, 2.0]], {"paired": True}),
    ],
)
def test_a_crossed_bootstrap_refuses_what_does_not_fit(ours, theirs, options):
    with pytest.raises(ValueError, match="needed|must be"):
        stats.crossed_bootstrap(ours, theirs, **options)
