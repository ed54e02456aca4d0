"""The report on pose in video: verdicts follow from the records, whichever way they fall."""

import json

import pytest
from made_up_video import ablation_study, found, scaling_study, share, time_study, video_training
from page_reader import Page, table

from posescale.claims import load_claims
from posescale.report import build

TIME = "video-time-posetrack-gt-boxes-last"


@pytest.fixture
def page_of(store, tmp_path):
    """Builds a page from made-up records."""
    return lambda records: build([store(list(records))], tmp_path / "out", "t")


def _tests(page):
    rows = table(page, f"{TIME}-time")
    return {(r.condition, r.other, r.state): r.verdict for r in rows.itertuples()}


def test_a_model_that_uses_time_is_said_to(page_of):
    page = page_of(time_study())
    tests = _tests(page)
    assert tests["as it is", "vitpose_tiny", "hidden"] == "wins"
    assert tests["as it is", "vitpose_tiny", "visible"] == "tie"
    assert tests["as it is", "itself, own frame T times", "hidden"] == "wins"
    assert tests["as it is", "itself, neighbours shuffled", "hidden"] == "wins"
    assert "glsmamba_tiny uses time. Hidden joints against vitpose_tiny: wins" in Page(page).text
    assert list((page.parent / "figures").glob(f"{TIME}-figure.svg"))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"hidden": 40}, "hidden against vitpose_tiny"),
        ({"hidden": 55, "own_frame": 40, "shuffled": 40, "other_video": 40}, "hidden against vitpose_tiny"),
        ({"own_frame": 70}, "hidden against own frame T times"),
        ({"shuffled": 75}, "hidden against neighbours shuffled"),
        ({"other_video": 75}, "hidden against neighbours of another video"),
        ({"own_frame": 60}, "with own frame T times, hidden against vitpose_tiny"),
        ({"other_video": 60}, "with neighbours of another video, hidden against vitpose_tiny"),
    ],
)
def test_a_gain_that_is_not_there_or_not_by_time_is_not_claimed(page_of, change, reason):
    text = Page(page_of(time_study(**change))).text
    assert "glsmamba_tiny uses time." not in text
    assert "Not shown that glsmamba_tiny uses time" in text and reason in text


def test_a_wide_interval_is_neither_a_win_nor_a_tie(page_of):
    noisy = [r for s in range(3) for r in (found("vitpose_tiny", s, 90, 55, frames=1, spread=25),
                                           found("glsmamba_tiny", s, 90, 56, spread=25))]  # fmt: skip
    page = page_of(noisy)
    assert _tests(page)["as it is", "vitpose_tiny", "hidden"] == "not shown"


def test_one_seed_is_said_to_speak_of_videos_alone(page_of):
    page = page_of(time_study(seeds=1))
    assert "One seed: the intervals speak of videos alone." in Page(page).text
    assert table(page, f"{TIME}-states").loc[0, "seeds"] == 1
    assert _tests(page)["as it is", "vitpose_tiny", "hidden"] == "wins"


def test_states_and_clip_lengths_stand_in_one_table_and_weigh_joints(page_of):
    records = list(time_study())
    page = page_of(records)
    rows = table(page, f"{TIME}-states")
    assert list(rows["frames"]) == [5, 5, 5, 5, 1, 5]
    assert {"pck_visible", "pck_hidden", "pck_occluder", "pck_blurred", "pck", "ap"} <= set(rows.columns)
    main = table(page, "accuracy-time-last").set_index("model")
    assert list(main.index) == ["glsmamba_tiny", "vitpose_tiny", "interpolate_visible"]  # as they are, alone
    assert main.loc["vitpose_tiny", "frames"] == 1
    seeds = [
        v.value for r in records if r.variant == "vitpose_tiny" for v in r.values if (v.name, v.group) == ("pck", "")
    ]
    assert main.loc["vitpose_tiny", "pck"] == pytest.approx(sum(seeds) / 3)


def test_failures_are_shown_in_their_place(page_of):
    records = [r for r in time_study() if r.options["condition"] != "shuffled"]
    crash = {"values": [], "samples": {}, "labels": {}, "status": "crashed", "reason": "the prediction holds NaN"}
    records.append(found("glsmamba_tiny", 0, 1, 1, condition="shuffled", **crash))
    page = page_of(records)
    rows = table(page, f"{TIME}-states").set_index("condition")
    assert rows.loc["neighbours shuffled", "pck_hidden"] == "crashed" and "the prediction holds NaN" in Page(page).text
    assert not [key for key in _tests(page) if "shuffled" in key[1]]
    assert "but not everything was" in Page(page).text


def test_ground_truth_boxes_and_detector_boxes_never_share_a_table(page_of):
    detector = {"protocol": "posetrack_detector_boxes", "samples": {}, "labels": {}}
    records = [
        *time_study(),
        *(found("glsmamba_tiny", s, 1, 1, values=[share("ap", 60 + s)], **detector) for s in range(3)),
    ]
    page = page_of(records)
    by_key = {r.id: r.protocol for r in records}
    for path in (page.parent / "tables").glob("*.csv"):
        if path.stem.startswith(("accuracy", "video", "ablation")):
            columns = table(page, path.stem)
            assert len({by_key[k] for keys in columns["records"] for k in keys.split()}) == 1, path
    own = table(page, "video-time-posetrack-detector-boxes-last-states")
    assert own.loc[0, "ap"] == 61 and "pck" not in own


def test_ablation_rows_stand_beside_what_the_paper_printed(page_of):
    page = page_of(ablation_study())
    rows = table(page, "ablation-parts-glsmamba-tiny-last").set_index("row")
    assert rows.loc["without_stmm", "verdict"] == "interval covers zero"
    assert rows.loc["unified", "verdict"] == "loses" and rows.loc["wider", "verdict"] == "gains"
    printed = {c.id: c.value for c in load_claims() if c.paper == "glsmamba" and c.quantity == "ap"}
    whole = next(v for k, v in printed.items() if "scan-ablation/sts6d/" in k or "scan-ablation/sts6d-" in k)
    unified = next(v for k, v in printed.items() if "/unified-scan" in k)
    assert rows.loc["unified", "published"] == pytest.approx(unified - whole) == pytest.approx(-1.1)
    assert rows.loc["without_stmm", "published"] == pytest.approx(-0.7)
    assert rows["published"].isna()["wider"]
    assert rows.loc["unified", "difference_low"] < rows.loc["unified", "difference"] < 0
    assert "The interval covers zero for without_stmm" in Page(page).text


def test_rows_of_an_ablation_go_by_their_labels(page_of):
    page = page_of(ablation_study(seeds=1))
    assert set(table(page, "accuracy-parts-last")["model"]) == {
        "vitpose_tiny", "glsmamba_tiny", "unified", "without_stmm", "wider"
    }  # fmt: skip
    assert "One seed of the whole model" in Page(page).text


def test_resolution_is_swept_by_tokens_and_memory_that_ran_out_is_a_cell(page_of):
    page = page_of(scaling_study())
    names = [p.stem for p in (page.parent / "tables").glob("latency-*-t-5.csv")]
    assert len(names) == 1
    rows = table(page, names[0]).set_index("model")
    assert {"L960", "L3840", "L15360", "L61440"} <= set(rows.columns)
    assert rows.loc["glsmamba_tiny", "exponent"] == pytest.approx(1)
    assert rows.loc["glsformer_j_tiny", "exponent"] == pytest.approx(2)
    assert rows.loc["joint_naive", "L61440"] == "oom" and rows.loc["joint_naive", "L15360"] != "oom"
    frames = [p.stem for p in (page.parent / "tables").glob("latency-*-128-96.csv")]
    assert list(table(page, frames[0]).columns[1:6:2]) != [] and "T17" in table(page, frames[0])
    macs = table(page, "cost-b1-t-5-macs").set_index("model")
    assert macs.loc["glsmamba_tiny", "exponent"] == pytest.approx(1)
    assert "tokens L = T H W / 16" in (page.parent / "figures" / f"{names[0]}-figure.svg").read_text()


def test_curves_and_metrics_are_in_the_records_units(page_of):
    page = page_of([*(video_training(s) for s in range(2)), *time_study(seeds=1)])
    assert "Validation PCK (%) by epoch" in Page(page).text
    numbers = json.loads((page.parent / "metrics.json").read_text())["accuracy"]["time"]
    assert {"glsmamba_tiny T=5 last", "glsmamba_tiny T=5 last shuffled", "vitpose_tiny T=1 last"} <= set(numbers)
    assert set(numbers["vitpose_tiny T=1 last"]) == {"pck", "ap"}
