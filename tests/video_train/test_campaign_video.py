"""The campaign's video part: the same cell as for lifting, on rendered videos, scored with and without its time."""

import pytest

from posescale.campaign import accuracy
from posescale.campaign.cell import Context
from posescale.data import catalog

DATA = {
    "name": "synthetic_video",
    "settings": {"train": 2, "val": 1, "test": 2, "frames": 4, "width": 96, "height": 72, "workers": 1},
}
CHANGES = {"epochs": 1, "steps_per_epoch": 2}


@pytest.fixture(scope="module")
def campaign(toy_folder, tmp_path_factory):
    """A campaign's folder, and the records of one cell in it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("POSESCALE_COMPONENTS", str(toy_folder))
        context = Context("cpu", tmp_path_factory.mktemp("campaign"), "s")
        return context, list(accuracy.train(context, "dots", 3, 0, DATA, changes=CHANGES))


def test_a_trained_model_is_scored_with_and_without_its_time(campaign):
    _, (training, *scores) = campaign
    assert training.kind == "training" and training.status == "ok" and training.options["recipe"]["epochs"] == 1
    assert [(r.kind, r.status, r.study, r.seed) for r in scores] == [("accuracy", "ok", "s", 0)] * 5
    told = [(r.selection, r.options["condition"]) for r in scores]
    assert told == [
        ("last", "as_is"), ("last", "own_frame"), ("last", "shuffled"), ("last", "other_video"), ("val-best", "as_is"),
    ]  # fmt: skip
    assert all(any(v.name == "pck_by_state" and v.group == "visible" for v in r.values) for r in scores)


def test_a_cell_cut_while_scoring_goes_on_without_rendering_or_training(campaign, monkeypatch):
    context, (training, *scores) = campaign
    monkeypatch.setattr(catalog, "prepare", _never)
    monkeypatch.setattr("posescale.train.fit.fit", _never)
    again, *scored = accuracy.train(context, "dots", 3, 0, DATA, changes=CHANGES)
    assert again.id == training.id and [r.id for r in scored] == [r.id for r in scores]


@pytest.mark.parametrize("other", [{"seed": 1}, {"changes": {"epochs": 2}}, {"overrides": {"channels": 8}}], ids=str)
def test_another_training_is_not_taken_for_it(campaign, monkeypatch, other):
    context, _ = campaign
    monkeypatch.setattr("posescale.train.fit.fit", _never)
    with pytest.raises(AssertionError, match="done already"):
        list(accuracy.train(context, "dots", 3, **{"seed": 0, "data": DATA, "changes": CHANGES, **other}))


def _never(*_, **__):
    raise AssertionError("done already")


def test_one_frame_has_no_time_to_take_away(campaign):
    context, _ = campaign
    overrides = {"channels": 8}
    _, *scores = accuracy.train(context, "dots", 1, 0, DATA, changes=CHANGES, overrides=overrides)
    assert [(r.selection, r.options["condition"]) for r in scores] == [("last", "as_is"), ("val-best", "as_is")]
    assert all(r.options["overrides"]["channels"] == 8 for r in scores)


def test_other_data_train_into_another_folder(campaign):
    context, _ = campaign
    other = {**DATA, "settings": {**DATA["settings"], "seed": 1}}
    list(accuracy.train(context, "dots", 3, 0, other, changes=CHANGES))
    assert len(list(context.out.glob("trained/dots-T3-*"))) == 2 and len(list(context.out.glob("data/*"))) == 2


def test_data_that_cannot_be_made_block_the_cell(tmp_path, monkeypatch):
    monkeypatch.delenv("POSESCALE_DATA", raising=False)
    wants = {"name": "synthetic_video", "settings": {**DATA["settings"], "motion": "cmu_mocap"}}
    monkeypatch.chdir(tmp_path)
    (record,) = accuracy.train(Context("cpu", tmp_path, "s"), "dots", 3, 0, wants)
    assert record.status == "blocked" and record.variant == "dots" and record.dataset == "synthetic_video"
    assert "motion from CMU" in record.reason and not (tmp_path / "trained").exists()
