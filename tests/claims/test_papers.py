"""The published numbers as data: every file is right, wrong ones are refused in words."""

import subprocess
import sys
from collections import Counter

import pytest

from posescale.claims import load_claims, look, read_paper
from posescale.claims.formula import check, evaluate
from posescale.claims.printed import parse
from posescale.claims.schema import PAPERS, UNSETTLED
from posescale.data.catalog import check_settings
from posescale.errors import ConfigError


@pytest.fixture(scope="module")
def claims():
    return load_claims()


def test_there_are_enough_of_them_and_each_is_unique(claims):
    assert len(claims) >= 400
    assert len({c.paper for c in claims}) >= 40
    assert len({c.id for c in claims}) == len(claims)


@pytest.mark.parametrize("path", sorted(PAPERS.glob("*.yaml")), ids=lambda p: p.stem)
def test_every_file_holds_claims_with_source_and_evidence(path):
    for claim in read_paper(path):
        assert claim.source and claim.evidence and claim.value > 0, claim.id


def test_each_family_of_quantities_is_there(claims):
    assert {"parameters", "macs", "mpjpe", "p_mpjpe", "mpjpe_gt2d", "pck", "auc", "ap", "fps"} <= {
        c.quantity for c in claims
    }
    assert set(Counter(c.evidence for c in claims)) == {"paper", "readme", "second_hand", "memory", "derived"}


def test_the_size_ablation_has_error_parameters_and_macs_for_all_twelve_rows(claims):
    rows = [c for c in claims if c.paper == "posemamba" and c.table.startswith("Table 6")]
    found = Counter((c.model, c.quantity) for c in rows)
    assert len({c.model for c in rows}) == 12 and set(found.values()) == {1} and len(found) == 36
    for claim in rows:
        blocks, width = map(int, claim.model.split("x"))
        assert claim.overrides == {"depth": blocks // 2, "dim": width}


def test_names_are_those_of_readers_and_protocols(claims):
    """A number under a name that no record can carry could never be judged."""
    means, unread = look(), {"coco"}
    accuracies = [c for c in claims if c.family == "accuracy"]
    assert {c.dataset for c in accuracies} - means.readers == unread
    absent = {"coco_ap", "h36m_cpn_gt_boxes", "h36m_hrnet", "h36m_mmpose"}  # evaluations that are not built here
    ours = {c.protocol for c in accuracies if c.component in means.components}
    assert ours - means.protocols == {UNSETTLED} | absent
    for claim in (c for c in accuracies if c.settings):
        check_settings(claim.dataset, claim.settings)


@pytest.mark.parametrize(
    ("text", "value", "low", "high"),
    [
        ("41.8", 41.8, 41.75, 41.85),
        ("0.9M", 0.9e6, 0.85e6, 0.95e6),
        ("3.6G", 3.6e9, 3.55e9, 3.65e9),
        ("139.0G", 139e9, 138.95e9, 139.05e9),
        ("41,675", 41675, 41674.5, 41675.5),
        ("16%", 16, 15.5, 16.5),
        ("2.8x", 2.8, 2.75, 2.85),
        ("0.336B", 0.336e9, 0.3355e9, 0.3365e9),
    ],
)
def test_the_printed_digits_decide_the_band(text, value, low, high):
    number = parse(text)
    assert number.value == pytest.approx(value, rel=1e-12)
    assert number.rounding == pytest.approx((low, high), rel=1e-9)
    assert number.rounds_from(low) and number.rounds_from(high)
    assert not number.rounds_from(low - 1e-3 * value) and not number.rounds_from(high + 1e-3 * value)


def test_digits_cut_off_are_told_from_digits_rounded():
    number = parse("33.6M")
    assert number.cut_from(33_650_691) and not number.rounds_from(33_650_691)
    assert not number.cut_from(33_700_000) and not number.cut_from(33_599_000)


@pytest.mark.parametrize("text", ["", "3,6G", "1,23", "-3", "3.6 G", "about 22", "3.6GG", "1e9", ".5", "nan", "2025,1"])
def test_what_is_no_printed_number_is_refused(text):
    with pytest.raises(ValueError, match="not a printed number"):
        parse(text)


def test_other_values_print_in_the_same_scale():
    assert parse("3.6G").like(8_260_678_080, more=2) == "8.261G"
    assert parse("41,675").like(12469.4) == "12,469"
    assert parse("16%").like(15.9523, more=2) == "15.95%"


PAPER = """
id: p
title: P
tables:
  - name: Table 1
    source: here
    evidence: paper
    rows:
      - {model: M, printed: {parameters: 0.9M}}
"""


def _read(tmp_path, text):
    path = tmp_path / "p.yaml"
    path.write_text(text)
    return read_paper(path)


def test_rows_inherit_and_change_the_tables_conditions(tmp_path):
    text = PAPER.replace("    rows:", "    frames: 27\n    rows:") + (
        "      - {model: N, frames: 81, evidence: readme, printed: {macs: 1.0G}}\n"
    )
    first, second = _read(tmp_path, text)
    assert (first.frames, first.evidence, first.id) == (27, "paper", "p/table-1/m-t27/parameters")
    assert (second.frames, second.evidence, second.source) == (81, "readme", "here")
    assert second.value == 1e9 and second.unit == "MAC"


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("0.9M", "0.9", "in quotes"),
        ("0.9M", "about 1", "not a printed number"),
        ("parameters: 0.9M", "params: 0.9M", "unknown quantity 'params'"),
        ("{parameters: 0.9M}", "{}", "at least 1"),
        ("evidence: paper", "evidence: rumour", "evidence"),
        ("    evidence: paper\n", "", "evidence"),
        ("    source: here\n", "", "say where the number was found"),
        ("source: here", "sauce: here", "tables.0.sauce: unknown key"),
        ("id: p", "id: q", "file is called 'p.yaml'"),
        ("id: p", "id: P!", "id"),
        ("parameters: 0.9M", 'mpjpe: "41.8"', "needs a dataset and a protocol"),
        ("parameters: 0.9M", "memory_saving: 64.7%", "relative_to"),
        ("parameters: 0.9M", "macs_per_frame: 1M", "frames"),
        ("model: M,", "model: M, overrides: {depth: 3},", "belong to a component"),
        ("model: M,", "model: M, frames: -3,", "frames"),
        ("model: M,", "model: M, formula: '__import__(\"os\")',", "formula"),
        ("model: M,", "model: M, component: m, formula: 2 * T,", "convention that is named"),
        ("    rows:", "    rows: []\n    nothing:", "rows"),
        ("title: P", "title: [", "cannot be read as YAML"),
        ("{parameters: 0.9M}", "{parameters: 0.9M, parameters: 1.5M}", "'parameters' is there twice"),
        ("title: P", "title: !!python/object/apply:os.getcwd []", "cannot be read as YAML"),
        ("{parameters: 0.9M}", "[0.9M]", "printed"),
        ("model: M", "model: 3", "model"),
        (PAPER, "", "top level"),
        (PAPER, "- 3", "top level"),
    ],
)
def test_a_wrong_file_is_refused_with_file_and_key(tmp_path, old, new, words):
    assert old in PAPER
    with pytest.raises(ConfigError) as caught:
        _read(tmp_path, PAPER.replace(old, new, 1))
    assert str(tmp_path / "p.yaml") in str(caught.value) and words in str(caught.value)


def test_two_rows_of_one_name_need_a_label(tmp_path):
    twice = PAPER + "      - {model: M, printed: {parameters: 1.5M}}\n"
    with pytest.raises(ConfigError, match="twice"):
        _read(tmp_path, twice)
    assert (
        len(
            _read(
                tmp_path,
                twice.replace("model: M, printed: {parameters: 1.5M", "model: M, label: b, printed: {parameters: 1.5M"),
            )
        )
        == 2
    )


def test_bytes_that_are_no_text_are_refused(tmp_path):
    (tmp_path / "p.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="p.yaml"):
        read_paper(tmp_path / "p.yaml")


def test_an_empty_folder_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="no file of claims"):
        load_claims(tmp_path)


def test_formulas_are_arithmetic_and_nothing_else():
    assert evaluate("2 * (a + 3) ** 2 // b - 1 / 2", {"a": 1, "b": 5}) == 5.5
    for text in ("f(2)", "a.b", "[1]", "'x'", "a if b else c", "-a", "True", "2 +", "lambda: 1"):
        with pytest.raises(ValueError, match="formula"):
            check(text)
    with pytest.raises(ConfigError, match="'c' is no number here; known are a"):
        evaluate("a * c", {"a": 1, "c": "text"})


def test_claims_do_not_load_torch():
    code = "import sys, posescale.claims as c; c.ledger_rows([]); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0


def test_names_of_components_are_ours(claims):
    """A component that a claim names is on a card, or is one of the planned ones."""
    from posescale.cards import components

    planned = {"glsmamba_b", "glsmamba_h", "vitpose_s", "vitpose_b", "vitpose_l", "vitpose_h"}
    named = {c.component for c in claims if c.component}
    assert named <= set(components()) | planned
