"""A training process killed at any moment, by SIGKILL, ends in the same bytes once it is started again."""

import json
import multiprocessing
import os
import signal
import time

import numpy as np
import pytest
from swing import RECIPE
from test_fit import result

from posescale.train.fit import fit
from posescale.train.resume import ResumeStore, exclusive

LONGER = RECIPE.override(epochs=40, steps_per_epoch=4, ema=0.9)


def job(components, *arguments):
    """Run in a process of its own: nothing is carried over but the files."""
    os.environ["POSESCALE_COMPONENTS"] = components
    fit(*arguments)


@pytest.fixture(scope="module")
def fresh_process():
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["posescale.train.fit"])
    return context.Process


@pytest.fixture(scope="module")
def uninterrupted(data_dir, toy_folder, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("POSESCALE_COMPONENTS", str(toy_folder))
        out = tmp_path_factory.mktemp("uninterrupted")
        fit("toy", data_dir, 9, 0, LONGER, out)
        return result(out)


def newest(out):
    return max((int(p.name.split("-")[1]) for p in out.glob("resume/*/epoch-*.pt")), default=0)


def wait_for_epoch(process, out, epoch):
    deadline = time.monotonic() + 60
    while newest(out) < epoch and process.is_alive() and time.monotonic() < deadline:
        time.sleep(0.002)


def test_killed_and_restarted_equals_uninterrupted(uninterrupted, fresh_process, data_dir, toy_folder, tmp_path):
    rng = np.random.default_rng()
    arguments = (str(toy_folder), "toy", data_dir, 9, 0, LONGER, tmp_path)
    reached = []
    for _ in range(6):
        process = fresh_process(target=job, args=arguments)
        process.start()
        wait_for_epoch(process, tmp_path, newest(tmp_path) + 2)
        time.sleep(rng.uniform(0, 0.05))
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        assert process.exitcode == -signal.SIGKILL, "it ended before it was killed; train longer"
        assert not list(tmp_path.glob("*.pt")) and not (tmp_path / "record.jsonl").exists()
        reached.append(newest(tmp_path))
    assert reached == sorted(set(reached)) and reached[-1] < LONGER.epochs, reached
    process = fresh_process(target=job, args=arguments)
    process.start()
    process.join()
    assert process.exitcode == 0
    assert result(tmp_path) == uninterrupted
    assert sorted(p.name for p in tmp_path.iterdir() if p.suffix != ".lock") == [
        ".lock", "history.csv", "record.jsonl", "weights-last.pt", "weights-val-best.pt",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "changes",
    [
        {"accumulate": 3, "steps_per_epoch": None, "flip": "doubling"},
        {"precision": "bf16-mixed", "gradient_clip": 0.1, "optimizer": "adam_amsgrad"},
        {"precision": "64-true", "objective": "half_squared_loss", "norm_momentum": (0.1, 0.001), "windows": "chunks"},
    ],
    ids=["accumulated", "bf16-mixed", "float64"],
)  # fmt: skip
def test_every_kind_of_recipe_resumes(fresh_process, data_dir, toy_folder, tmp_path, changes):
    recipe = LONGER.override(**changes)
    fit("toy", data_dir, 9, 0, recipe, tmp_path / "whole")
    process = fresh_process(target=job, args=(str(toy_folder), "toy", data_dir, 9, 0, recipe, tmp_path / "killed"))
    process.start()
    wait_for_epoch(process, tmp_path / "killed", 4)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert process.exitcode == -signal.SIGKILL, "it ended before it was killed; train longer"
    fit("toy", data_dir, 9, 0, recipe, tmp_path / "killed")
    assert result(tmp_path / "killed") == result(tmp_path / "whole")


def test_torn_newest_state_falls_back_to_the_one_before(uninterrupted, fresh_process, data_dir, toy_folder, tmp_path):
    process = fresh_process(target=job, args=(str(toy_folder), "toy", data_dir, 9, 0, LONGER, tmp_path))
    process.start()
    wait_for_epoch(process, tmp_path, 5)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    states = sorted(tmp_path.glob("resume/*/epoch-*.pt"))
    assert len(states) >= 2
    states[-1].write_bytes(states[-1].read_bytes()[:-1000])
    fit("toy", data_dir, 9, 0, LONGER, tmp_path)
    assert result(tmp_path) == uninterrupted


def test_store_keeps_two_and_refuses_every_kind_of_tear(tmp_path, caplog):
    import torch

    store = ResumeStore(tmp_path)
    assert store.load() is None
    for epoch in range(1, 5):
        store.save({"x": torch.tensor(epoch), "progress": {"steps": epoch}}, epoch)
    files = sorted(tmp_path.iterdir())
    assert len(files) == 2 and store.load()["x"] == 4
    content = bytearray(files[1].read_bytes())
    content[len(content) // 2] ^= 1
    files[1].write_bytes(content)
    assert store.load()["progress"] == {"steps": 3} and "torn" in caplog.text
    files[0].write_bytes(b"")
    assert store.load() is None


def test_other_settings_do_not_take_up_the_state(fresh_process, data_dir, toy_folder, tmp_path):
    process = fresh_process(target=job, args=(str(toy_folder), "toy", data_dir, 9, 0, LONGER, tmp_path))
    process.start()
    wait_for_epoch(process, tmp_path, 2)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    fit("toy", data_dir, 9, 1, RECIPE, tmp_path)
    fit("toy", data_dir, 9, 1, RECIPE, tmp_path / "clean")
    assert result(tmp_path) == result(tmp_path / "clean")


def test_finished_state_only_writes_the_results(data_dir, tmp_path, monkeypatch):
    """Killed between the last epoch and the last file: the next call ends the run without training."""
    import posescale.train.fit as module

    with monkeypatch.context() as patch:
        patch.setattr(module.results, "write", lambda *_: None)
        fit("toy", data_dir, 9, 0, RECIPE, tmp_path)
    assert newest(tmp_path) == RECIPE.epochs
    with monkeypatch.context() as patch:
        patch.setattr(module.L.Trainer, "fit", None)
        fit("toy", data_dir, 9, 0, RECIPE, tmp_path)
    fit("toy", data_dir, 9, 0, RECIPE, tmp_path / "clean")
    assert result(tmp_path) == result(tmp_path / "clean")


def hold(folder, ready):
    with exclusive(folder):
        ready.set()
        time.sleep(60)


def test_the_lock_goes_with_its_holder(tmp_path):
    context = multiprocessing.get_context("forkserver")
    ready = context.Event()
    process = context.Process(target=hold, args=(tmp_path, ready))
    process.start()
    assert ready.wait(60)
    with pytest.raises(Exception, match=f"process {process.pid} is training"), exclusive(tmp_path, patience=0.2):
        pass
    os.kill(process.pid, signal.SIGKILL)
    with exclusive(tmp_path, patience=10):
        assert json.loads((tmp_path / ".lock").read_text()) == os.getpid()
