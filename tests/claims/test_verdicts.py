"""Verdicts follow from records: each class, its bands, its reasons."""

import dataclasses

import pytest

from posescale.claims import Means, Standing, Verdict, judge, ledger_rows, load_claims, sort, summary, to_count
from posescale.metrics.splits import average_of_splits
from posescale.records import Record, Value

SSM = {
    "macs__contractions": 5_172_672_960,
    "macs__contractions_plus_scan": 8_260_678_080,
    "macs__thop": 3_587_426_496,
    "flops__contractions": 10_345_345_920,
    "scan_flops__9N+1": 6_133_708_800,
    "parameters__unique": 1_470_211,
    "parameters__thop": 859_651,
}
PLAIN = {"macs__contractions": 64.46e9, "macs__contractions_plus_scan": 64.46e9, "macs__thop": 48.3e9}


def test_a_count_within_the_printed_rounding_is_reproduced(claim, cost, means):
    record = cost(**SSM)
    verdict = judge(claim("parameters", "1.5M"), sort([record], means))
    assert (verdict.word, verdict.ours, verdict.records) == ("reproduced", 1_470_211, (record.id,))
    assert judge(claim("parameters", "1.4M"), sort([record], means)).word == "explained"  # cut off
    assert judge(claim("parameters", "1.3M"), sort([record], means)).word == "refuted"


def test_a_count_by_another_convention_is_explained_with_the_honest_number(claim, cost, means):
    evidence = sort([cost(**SSM)], means)
    verdict = judge(claim("macs", "3.587G"), evidence)
    assert (verdict.word, verdict.convention, verdict.ours) == ("explained", "thop", 8_260_678_080)
    for words in ("3.587G = thop", "scan", "all contractions 5.17267G", "contractions and scan 8.26068G"):
        assert words in verdict.reason
    verdict = judge(claim("parameters", "0.860M"), evidence)
    assert (verdict.word, verdict.ours) == ("explained", 1_470_211)
    assert "610,560 parameters" in verdict.reason


def test_flops_printed_as_macs_and_whole_clips_as_frames_are_explained(claim, cost, means):
    evidence = sort([cost(**SSM)], means)
    assert judge(claim("macs", "10.3G"), evidence).convention == "all contractions, 2 per multiply-add"
    assert judge(claim("flops", "5.17G"), evidence).convention == "all contractions"
    verdict = judge(claim("macs_per_frame", "3.6G"), evidence)
    assert verdict.word == "explained" and "whole clip of 243 frames by thop" in verdict.reason
    assert verdict.ours == pytest.approx(8_260_678_080 / 243)


def test_a_count_that_no_convention_gives_is_refuted_with_value_and_interval(claim, cost, means):
    record = cost(**PLAIN)
    verdict = judge(claim("macs", "33.0G"), sort([record], means))
    assert (verdict.word, verdict.ours, verdict.low, verdict.high) == ("refuted", 64.46e9, 64.46e9, 64.46e9)
    assert "thop 48.300G" in verdict.reason and verdict.records == (record.id,)


def test_a_model_without_a_scan_has_one_full_count(claim, cost, means):
    reason = judge(claim("macs", "48.3G"), sort([cost(**PLAIN)], means)).reason
    assert reason.count("64.460G") == 1 and "scan" not in reason


def test_a_share_compares_two_models_by_one_ruler(claim, cost, means):
    ours, theirs = cost(**SSM), cost("other", macs__contractions=10e9, macs__thop=10e9)
    evidence = sort([ours, theirs], means)
    verdict = judge(claim("macs", "36%", relative_to="other"), evidence)
    assert (verdict.word, verdict.convention) == ("explained", "thop")
    assert verdict.ours == pytest.approx(51.7267296) and set(verdict.records) == {ours.id, theirs.id}
    assert judge(claim("macs_saving", "48%", relative_to="other"), evidence).word == "reproduced"
    assert judge(claim("macs", "36%", relative_to="other"), sort([ours], means)).word == "untested"
    assert judge(claim("macs", "36%", relative_to="nobody"), evidence).word == "blocked"


def test_an_authors_formula_explains(claim, cost, means):
    stated = claim("macs", "2.4G", component="m", convention="by hand", formula="depth * 10 ** 6 * T")
    verdict = judge(stated, sort([cost(**PLAIN)], means))
    assert (verdict.word, verdict.convention, verdict.ours) == ("explained", "by hand", 64.46e9)


def test_only_counts_of_the_same_configuration_and_code_speak(claim, cost, means):
    for stale in (cost(digest="older", **SSM), cost(frames=81, **SSM), cost(overrides={"depth": 20}, **SSM)):
        assert judge(claim(), sort([stale], means)).word == "untested"
    same = cost(overrides={"depth": 10}, **SSM)  # what the card says anyway
    assert judge(claim(), sort([same], means)).word == "explained"
    deeper = claim(overrides={"depth": 20})
    assert judge(deeper, sort([cost(overrides={"depth": 20}, **SSM)], means)).word == "explained"
    assert [c.overrides for c in to_count([claim(), deeper], sort([same], means))] == [{"depth": 20}]


def test_a_failed_count_blocks_and_says_why(claim, cost, means):
    verdict = judge(claim(), sort([cost(status="uncounted")], means))
    assert verdict.word == "blocked" and "made so" in verdict.reason and verdict.records
    assert judge(claim(), sort([cost(status="uncounted"), cost(**SSM)], means)).word == "explained"
    assert judge(claim(), sort([cost(parameters__unique=3)], means)).word == "blocked"


@pytest.mark.parametrize(
    ("values", "printed", "word"),
    [
        ([41.7, 41.9, 42.0, 41.8], "41.8", "reproduced"),
        ([41.0, 42.9, 43.5, 41.2], "41.8", "reproduced"),  # far, but the seeds scatter
        ([43.5, 43.6, 43.7, 43.6], "41.8", "refuted"),
        ([40.1, 40.2, 40.1, 40.2], "41.8", "refuted"),  # better is different too
        ([41.83, 41.83, 41.83], "41.8", "reproduced"),
        ([42.0, 42.0, 42.0], "41.8", "refuted"),
        ([41.8, 41.8], "41.8", "untested"),
        ([41.8], "41.8", "untested"),
    ],
)
def test_retrained_errors_are_tested_over_seeds(claim, scores, means, values, printed, word):
    verdict = judge(claim("mpjpe", printed), sort(scores(values), means))
    assert verdict.word == word
    assert verdict.ours == pytest.approx(sum(values) / len(values)) and len(verdict.records) == len(values)


@pytest.mark.parametrize(("spread", "word"), [(0.52, "reproduced"), (0.51, "refuted")])
def test_the_t_test_is_the_textbooks(claim, scores, means, spread, word):
    """Four seeds at 42.8 -+ spread: t = (42.8 - 41.85) / (spread / sqrt 3), critical at 3.182 (tables, 3 degrees)."""
    values = [42.8 - spread, 42.8 + spread] * 2
    assert judge(claim("mpjpe", "41.8"), sort(scores(values), means)).word == word


def test_an_epoch_chosen_on_the_test_set_is_refuted_by_its_like_only(claim, scores, means):
    chosen = claim("mpjpe", "41.8", selection="test-best")
    worse = [43.5, 43.6, 43.7]
    verdict = judge(chosen, sort(scores(worse), means))
    assert verdict.word == "untested" and "chosen on the test set" in verdict.reason and verdict.ours
    assert judge(chosen, sort(scores(worse, selection="test-best"), means)).word == "refuted"
    assert judge(chosen, sort(scores([41.7, 41.9, 41.8]), means)).word == "reproduced"


def test_records_of_another_recipe_size_or_protocol_do_not_count(claim, scores, means):
    good = [41.7, 41.8, 41.9]
    verdict = judge(claim("mpjpe", "41.8"), sort(scores(good, recipe={"epochs": 6}), means))
    assert verdict.word == "untested" and "3 records were trained by another recipe" in verdict.reason
    for change in ({"overrides": {"depth": 2}}, {"protocol": "cmu_cam"}, {"dataset": "cmu_mocap"}, {"frames": 81}):
        verdict = judge(claim("mpjpe", "41.8"), sort(scores(good, **change), means))
        assert verdict.word == "untested" and "only the record is missing" in verdict.reason
    failed = scores(good, status="crashed", reason="nan")
    assert judge(claim("mpjpe", "41.8"), sort(failed, means)).word == "untested"
    assert judge(claim("mpjpe", "41.8"), sort(scores([float("nan")] * 3), means)).word == "untested"


@pytest.mark.parametrize(("value", "word"), [(41.84, "reproduced"), (41.9, "refuted")])
def test_published_weights_must_score_what_was_printed(claim, means, value, word):
    found = Value(name="mpjpe", value=value, unit="mm", interval=(value - 1, value + 1))
    record = Record(
        kind="accuracy", component="c", variant="m", digest="d", dataset="h36m", protocol="h36m_sh", frames=243,
        weights_digest="official", values=[found],
    )  # fmt: skip
    verdict = judge(claim("mpjpe", "41.8"), sort([record], means))
    assert (verdict.word, verdict.ours, verdict.low, verdict.high) == (word, value, value - 1, value + 1)


def test_fractions_are_compared_as_percent(claim, scores, means):
    verdict = judge(claim("ap", "86.9"), sort(scores([0.868, 0.869, 0.870], name="ap", unit=""), means))
    assert verdict.word == "reproduced" and verdict.ours == pytest.approx(86.9)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"prepared": frozenset()}, "h36m is not prepared on this machine"),
        ({"readers": frozenset()}, "nothing here reads h36m"),
        ({"protocols": frozenset()}, "h36m_sh is not defined"),
        ({"components": {}}, "component m is not here yet"),
    ],
)
def test_what_is_missing_blocks_and_is_named(claim, means, change, words):
    verdict = judge(claim("mpjpe", "41.8"), sort([], dataclasses.replace(means, **change)))
    assert verdict.word == "blocked" and words in verdict.reason


def test_an_open_protocol_blocks_and_says_what_is_open(claim, means):
    verdict = judge(claim("ap", "86.9", dataset="posetrack17", protocol="unsettled"), sort([], means))
    assert verdict.word == "blocked" and "no protocol: whose boxes" in verdict.reason


def test_neither_weights_nor_recipe_blocks(claim, means):
    verdict = judge(claim("mpjpe", "41.8", component="other"), sort([], means))
    assert verdict.word == "blocked" and "no weights and no recipe" in verdict.reason


def test_no_component_blocks(claim, means):
    verdict = judge(claim(component=None), sort([], means))
    assert verdict.word == "blocked" and "no code" in verdict.reason


def test_means_without_a_record_leave_untested_with_the_next_step(claim, means):
    evidence = sort([], means)
    assert "posescale claims" in judge(claim(), evidence).reason
    verdict = judge(claim("mpjpe", "41.8"), evidence)
    assert verdict.word == "untested" and "m.bin" in verdict.reason and "posescale train m" in verdict.reason


def _timed(variant, p50, gpu="NVIDIA H200", name="latency", kind="latency", **fields):
    value = Value(name=name, value=p50, unit="ms", interval=(0.99 * p50, 1.01 * p50))
    defaults = {"device": "cuda", "frames": 243, "batch": 1, "fingerprint": {"gpu": gpu}}
    return Record(kind=kind, component="c", variant=variant, digest="d", values=[value], **(defaults | fields))


def test_ratios_of_times_and_memories_are_taken_in_one_setting(claim, means):
    stated = claim("speedup", "2.8x", relative_to="other")
    pair = [_timed("m", 10.0), _timed("other", 28.1)]
    assert judge(stated, sort(pair, means)).word == "reproduced"
    verdict = judge(stated, sort([_timed("m", 10.0), _timed("other", 14.0)], means))
    assert verdict.word == "refuted" and verdict.low < verdict.ours < verdict.high and len(verdict.records) == 2
    for lonely in ([pair[0]], [pair[0], _timed("other", 28.0, batch=8)], [pair[0], _timed("other", 28.0, gpu="A40")]):
        assert judge(stated, sort(lonely, means)).word == "untested"
    naive = _timed("other", 28.0, options={"preferences": {"attention": "naive"}})
    assert judge(stated, sort([pair[0], _timed("other", 14.0), naive], means)).word == "reproduced"
    changed = _timed("other", 28.0, options={"overrides": {"depth": 3}})
    assert judge(stated, sort([pair[0], changed], means)).word == "untested"
    on_cpu = [_timed("m", 10.0, device="cpu"), _timed("other", 28.1, device="cpu")]
    assert judge(stated, sort(on_cpu, means)).word == "untested"
    memory = {"name": "peak_allocated", "kind": "memory"}
    weighed = [_timed("m", 35.3, **memory), _timed("other", 100.0, **memory)]
    assert judge(claim("memory_saving", "64.7%", relative_to="other"), sort(weighed, means)).word == "reproduced"


def test_a_rate_needs_the_gpu_it_was_claimed_on(claim, means):
    record = _timed("m", 41_700, gpu="NVIDIA GeForce RTX 3090 Ti", name="throughput")
    stated = claim("fps", "41,675", hardware="RTX 3090 Ti")
    assert judge(stated, sort([record], means)).word == "reproduced"
    verdict = judge(claim("fps", "41,675", hardware="A6000"), sort([record], means))
    assert verdict.word == "blocked" and "A6000" in verdict.reason


def test_no_verdict_without_ground():
    with pytest.raises(ValueError, match="needs a reason"):
        Verdict("blocked", "")
    for word in ("reproduced", "explained", "refuted"):
        with pytest.raises(ValueError, match="needs records"):
            Verdict(word, "because")


def test_the_ledger_is_flat_complete_and_grounded(cost):
    rows = ledger_rows([])
    assert len(rows) == len(load_claims())
    needed = {
        "paper", "model", "quantity", "published", "ours", "verdict", "reason", "unit", "frames", "dataset", "protocol",
        "convention", "evidence", "table", "url", "records",
    }  # fmt: skip
    for row in rows:
        assert needed <= set(row) and all(isinstance(v, (str, int, float, type(None))) for v in row.values())
        assert row["verdict"] in ("blocked", "untested") and row["reason"] and row["ours"] is None
    assert "0 reproduced, 0 explained, 0 refuted" in summary(rows)


class TestTheMeanOverPublishedSplits:
    """Papers print JHMDB's mean over three splits; no single one of them speaks for it."""

    @pytest.fixture
    def published(self, claim):
        return claim("pck", "90.0", dataset="jhmdb", settings={"subset": "sub"}, protocol="jhmdb_person",
                     selection="last")  # fmt: skip

    @pytest.fixture
    def parts(self, scores):
        """Training and accuracy records of one split, one pair per value: all seeds, or the given weights."""

        def make(split, values, subset="sub", **fields):
            made = scores(values, name="pck", unit="%", dataset="jhmdb", protocol="jhmdb_person")
            for record in made:
                fit = record.kind == "training"
                options = {"weights": {"last": f"{split}-{record.seed}"}} if fit else {}
                options |= {} if fit else {"settings": {"split": split, "subset": subset}}
                content = record.model_dump() | {"id": "", "options": record.options | options}
                digest = {} if fit else {"weights_digest": f"{split}-{record.seed}"}
                yield Record.model_validate(content | digest | fields)

        return make

    def averages(self, *splits):
        by_seed = zip(*([r for r in records if r.kind == "accuracy"] for records in splits), strict=True)
        return [average_of_splits(parts) for parts in by_seed]

    def test_a_single_split_gets_no_verdict(self, published, parts, means):
        found = [*parts(1, [90.0, 90.0, 90.0])]
        verdict = judge(published, sort(found, means))
        assert verdict.word == "untested" and verdict.ours is None and len(verdict.records) == 3
        assert "one split of 3 (1: 90.00 %" in verdict.reason and "average-splits" in verdict.reason
        verdict = judge(published, sort([*found, *parts(2, [80.0])], means))
        assert verdict.word == "untested" and "single splits of 3" in verdict.reason

    @pytest.mark.parametrize(("shift", "word"), [(0.0, "reproduced"), (1.0, "refuted")])
    def test_their_average_is_tested_over_seeds(self, published, parts, means, shift, word):
        splits = [[*parts(n, [level - 0.1 + shift, level + shift, level + 0.1 + shift])]
                  for n, level in ((1, 80.0), (2, 95.0), (3, 95.0))]  # fmt: skip
        mean = self.averages(*splits)
        verdict = judge(published, sort([r for s in splits for r in s] + mean, means))
        assert verdict.word == word and verdict.ours == pytest.approx(90.0 + shift)
        assert set(verdict.records) == {r.id for r in mean}

    def test_an_average_in_which_one_split_was_trained_otherwise_does_not_count(self, published, parts, means):
        splits = [[*parts(n, [90.0] * 3)] for n in (1, 2, 3)]
        mean = self.averages(*splits)
        for record in (r for r in splits[2] if r.kind == "training"):
            record.options["recipe"] = {"epochs": 1}
        verdict = judge(published, sort([r for s in splits for r in s] + mean, means))
        assert verdict.word == "untested" and verdict.ours is None

    @pytest.mark.parametrize(("printed", "word"), [("90.0", "reproduced"), ("91.0", "refuted")])
    def test_given_weights_are_scored_on_all_splits(self, published, parts, means, printed, word):
        splits = [[r for r in parts(n, [90.0], seed=None) if r.kind == "accuracy"] for n in (1, 2, 3)]
        row = published.model_copy(update={"printed": printed})
        assert judge(row, sort(self.averages(*splits), means)).word == word
        assert judge(row, sort(splits[0], means)).word == "untested"

    def test_another_part_of_the_data_says_nothing(self, published, parts, means):
        verdict = judge(published, sort([*parts(1, [90.0], subset="full")], means))
        assert verdict.word == "untested" and "only the record is missing" in verdict.reason
        assert "average-splits" in verdict.reason

    def test_a_number_of_one_split_is_judged_by_it(self, published, parts, means):
        row = published.model_copy(update={"settings": {"subset": "sub", "split": 2}})
        found = [*parts(1, [80.0] * 3), *parts(2, [90.0] * 3)]
        verdict = judge(row, sort(found, means))
        assert verdict.word == "reproduced" and verdict.ours == pytest.approx(90.0)
        assert judge(row, sort([*parts(1, [90.0] * 3)], means)).word == "untested"


class TestOneNetworkByTwoNames:
    """A card may name what a claim describes by arguments; records of either name speak about it."""

    @pytest.fixture
    def named(self, means):
        shared = {"digest": "digest", "component": "c", "recipes": means.components["m"].recipes}
        plain = Standing(parameters={"frames": 243, "depth": 10}, **shared)
        shallow = Standing(parameters={"frames": 81, "depth": 2}, **shared)
        foreign = Standing("digest", {"frames": 243, "depth": 2}, component="d")
        components = {"foreign": foreign, "m": plain, "shallow": shallow}
        return Means(components, means.readers, means.prepared, means.protocols)

    @pytest.mark.parametrize("made", [{"variant": "shallow"}, {"overrides": {"depth": 2}}], ids=str)
    def test_counts(self, named, claim, cost, made):
        row = claim(overrides={"depth": 2})
        verdict = judge(row, sort([cost(macs__contractions=3.6e9, **made)], named))
        assert verdict.word == "reproduced"

    @pytest.mark.parametrize("made", [{}, {"variant": "foreign"}, {"variant": "shallow", "frames": 81}], ids=str)
    def test_others_say_nothing(self, named, claim, cost, made):
        evidence = sort([cost(macs__contractions=3.6e9, **made)], named)
        assert judge(claim(overrides={"depth": 2}), evidence).word == "untested"

    def test_what_is_counted_is_the_named_variant(self, named, claim):
        (place,) = to_count([claim(overrides={"depth": 2})], sort([], named))
        assert (place.variant, place.frames, place.overrides) == ("shallow", 243, {})

    @pytest.mark.parametrize(("variant", "overrides"), [("shallow", {}), ("m", {"depth": 2})])
    def test_accuracies(self, named, claim, scores, variant, overrides):
        made = [r.model_copy(update={"variant": variant}) for r in scores([40.0, 40.1, 39.9], overrides=overrides)]
        row = claim("mpjpe", "40.0", overrides={"depth": 2})
        assert judge(row, sort(made, named)).word == "reproduced"
        assert judge(claim("mpjpe", "40.0"), sort(made, named)).word == "untested"

    def test_the_next_step_names_the_variant(self, named, claim):
        verdict = judge(claim("mpjpe", "40.0", overrides={"depth": 2}), sort([], named))
        assert "posescale train shallow " in verdict.reason
