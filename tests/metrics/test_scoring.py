"""Protocols as values: each field decides what it says, and a changed protocol has another name."""

import numpy as np
import pytest

from posescale.data import catalog
from posescale.errors import ConfigError
from posescale.metrics import mpjpe, mpjve, n_mpjpe, p_mpjpe
from posescale.metrics.protocols import PROTOCOLS, Protocol, protocol
from posescale.metrics.scoring import Answers, NotFinite, by_sequence, score, summary

PLAIN = Protocol(id="p", title="t", source="s")
SH, DHP = PROTOCOLS["h36m_sh_25d"], PROTOCOLS["3dhp_univ"]


@pytest.fixture
def said():
    """12 true poses, and what was answered in three overlapping windows of 5 and one resampled one."""
    random = np.random.default_rng(0)
    target = random.normal(size=(12, 17, 3))
    target -= target[:, :1]
    told = np.array([[0, 1, 2, 3, 4], [3, 4, 5, 6, 7], [7, 8, 9, 10, 11], [2, 2, 6, 6, 6]])
    plain = (target[told] + 0.1 * random.normal(size=(4, 5, 17, 3))).astype(np.float32)
    mirrored = (target[told] + 0.1 * random.normal(size=(4, 5, 17, 3))).astype(np.float32)
    return target, Answers(told, plain, mirrored)


def errors(said, rules, mm=1000.0, counted=None):
    target, answers = said
    counted = np.ones(answers.told.shape, bool) if counted is None else counted
    return score("a", "walk", answers, counted, target, np.broadcast_to(mm, len(target)), rules).errors


def test_each_answer_counts_or_each_frame_does(said):
    target, answers = said
    pred = (answers.plain.astype(float) + answers.mirrored) / 2
    pred[..., 0, :] = 0
    flat, true = 1000 * pred.reshape(-1, 17, 3), 1000 * target[answers.told.ravel()]
    found = errors(said, PLAIN)
    for name, metric in (("mpjpe", mpjpe), ("p_mpjpe", p_mpjpe), ("n_mpjpe", n_mpjpe)):
        np.testing.assert_allclose(found[name], metric(flat, true), rtol=1e-12)
    totals, counts = np.zeros(12), np.zeros(12)  # as the official evaluator adds them up: with fancy indices
    for window, frames in zip(pred, answers.told):
        totals[frames] += mpjpe(1000 * window, 1000 * target[frames])
        counts[frames] += 1
    np.testing.assert_allclose(errors(said, PLAIN.changed(overlap="mean"))["mpjpe"], totals / counts, rtol=1e-12)
    assert counts.max() == 2 and len(found["mpjve"]) == 11


def test_velocity_joins_neighbours_only(said):
    target, answers = said
    counted = np.zeros(answers.told.shape, bool)
    counted[0, :3] = counted[2, 1:] = True  # frames 0 1 2 and 8 9 10 11
    found = errors(said, PLAIN.changed(flip_average=False, zero_root=False), counted=counted)
    parts = [(answers.plain[0, :3], target[:3]), (answers.plain[2, 1:], target[8:])]
    np.testing.assert_allclose(found["mpjve"], np.concatenate([1000 * mpjve(p, t) for p, t in parts]), rtol=1e-6)


def test_flip_root_and_given_xy(said):
    target, answers = said
    kept, zeroed = (errors(said, PLAIN.changed(zero_root=z, flip_average=False))["mpjpe"] for z in (False, True))
    root = 1000 * np.linalg.norm(answers.plain.astype(float)[..., 0, :], axis=-1).ravel()
    np.testing.assert_allclose(17 * (kept - zeroed), root, rtol=1e-9)
    depth = errors(said, PLAIN.changed(given_xy=True, flip_average=False))["mpjpe"]
    off = np.abs(answers.plain.astype(float) - target[answers.told])[..., 2]
    off[..., 0] = 0
    np.testing.assert_allclose(depth, 1000 * off.mean(-1).ravel(), rtol=1e-9)
    once = Answers(answers.told, answers.plain)
    np.testing.assert_array_equal(errors((target, once), PLAIN)["mpjpe"], zeroed)  # nothing to average with


def test_exact_frames_are_skipped_unless_all_are(said):
    target, answers = said
    plain = answers.plain.astype(float).copy()
    plain[0] = target[answers.told[0]]
    rules = PLAIN.changed(skip_exact=True, flip_average=False)
    assert len(errors((target, Answers(answers.told, plain)), rules)["mpjpe"]) == 15
    exact = Answers(answers.told, target[answers.told])
    assert (errors((target, exact), rules)["mpjpe"] == np.zeros(20)).all()


def test_millimetres_are_per_frame(said):
    mm = np.linspace(1, 4, 12)
    found = errors(said, PLAIN, mm)["mpjpe"]
    np.testing.assert_allclose(found, errors(said, PLAIN, 1.0)["mpjpe"] * mm[said[1].told.ravel()], rtol=1e-9)


def test_what_is_not_finite_is_named(said):
    target, answers = said
    answers.plain[1, 2, 3, 0] = np.nan
    with pytest.raises(NotFinite, match="for a holds NaN or infinity, first in frame 5"):
        errors(said, PLAIN)
    counted = np.ones(answers.told.shape, bool)
    counted[1, 2] = False
    assert np.isfinite(errors(said, PLAIN, counted=counted)["mpjpe"]).all()


def test_action_means_and_frame_means(said):
    target, answers = said
    every = np.ones(answers.told.shape, bool)

    def scored(name, action, windows, mm):
        part = Answers(answers.told[windows], answers.plain[windows], answers.mirrored[windows])
        return score(name, action, part, every[windows], target, np.full(12, mm), PLAIN)

    scores = [scored("a", "walk", slice(0, 3), 1000.0), scored("b", "walk", slice(0, 1), 3000.0),
              scored("c", "sit", slice(1, 2), 500.0)]  # fmt: skip
    all_errors = [s.errors["mpjpe"] for s in scores]
    walk, sit = np.concatenate(all_errors[:2]).mean(), all_errors[2].mean()
    for rules, whole in (
        (PLAIN, (walk + sit) / 2),
        (PLAIN.changed(aggregation="frame_mean"), np.concatenate(all_errors).mean()),
    ):
        found = {v.group: v for v in summary(scores, rules) if v.name == "mpjpe"}
        assert {g: v.value for g, v in found.items()} == pytest.approx({"": whole, "walk": walk, "sit": sit})
        low, high = found[""].interval
        assert low < whole < high
    rows = by_sequence(scores)
    assert rows["samples"]["frames_by_sequence"] == [15, 5, 5] and rows["labels"]["actions"] == ["walk", "walk", "sit"]


def test_a_changed_protocol_says_so():
    free = SH.changed(flip_average=False, excluded=())
    assert free.id == "h36m_sh_25d[excluded=none, flip_average=no]" and free.title.startswith(SH.title)
    assert SH.changed(flip_average=True) is SH and SH.changed() is SH
    assert DHP.changed(label_width=2048).id == "3dhp_univ[label_width=2048]"
    assert len({SH.id, free.id, free.changed(zero_root=False).id}) == 3
    for wrong, words in (
        ({"windows": "all"}, "windows"),
        ({"flop": 1}, "flop cannot be changed"),
        ({"id": "x"}, "id cannot"),
    ):
        with pytest.raises(ConfigError, match=words):
            SH.changed(**wrong)
    with pytest.raises(ConfigError, match="no protocol is called 'h36m'"):
        protocol("h36m")


def test_each_protocol_is_on_its_datasets_card():
    for rules in PROTOCOLS.values():
        assert rules.title and rules.source
        if rules.dataset in catalog.datasets():
            assert rules.id in catalog.dataset_card(rules.dataset).protocols
    declared = {field: {str(getattr(p, field)) for p in PROTOCOLS.values()} for field in ("windows", "labels", "root")}
    assert all(len(values) > 1 for values in declared.values())


def test_cameras_of_one_performance_are_redrawn_together(said):
    target, answers = said
    every = np.ones(answers.told.shape, bool)
    names, sizes = ("p.0", "p.1", "q.0", "q.1"), (1000.0, 3000.0, 1200.0, 2800.0)

    def scored(performances):
        return [score(name, "walk", answers, every, target, np.full(12, mm), PLAIN, performance)
                for name, mm, performance in zip(names, sizes, performances, strict=True)]  # fmt: skip

    noted, old = scored("ppqq"), scored([""] * 4)
    ours, alone = (next(v for v in summary(s, PLAIN) if v.name == "mpjpe" and not v.group) for s in (noted, old))
    assert ours.value == alone.value and ours.interval == pytest.approx((ours.value, ours.value))  # p and q are alike
    assert alone.interval[0] < ours.value < alone.interval[1]
    assert by_sequence(noted)["labels"]["performances"] == list("ppqq")
    assert "performances" not in by_sequence(old)["labels"]
    assert all(v.interval is None for v in summary(noted[:2], PLAIN))  # two cameras, but one performance
