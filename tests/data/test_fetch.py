"""Fetching whole datasets, consent, and what is noted of files: against a server on this machine."""

import io
import json
import subprocess
import sys
import zipfile
from hashlib import sha256

import pytest
import typer
from acclaim_files import amc_text, asf_text, channels
from file_server import FileServer
from typer.testing import CliRunner

from posescale import consent, lockfile
from posescale.commands import data as data_command
from posescale.commands.datasets import datasets as datasets_command
from posescale.data import catalog, fetch
from posescale.data.card import DatasetCard
from posescale.data.cmu_mocap.labels import ACTIONS
from posescale.data.originals import check_hashes, verify_originals
from posescale.errors import ConsentError, DataError, FetchError, UnavailableError

FILES = {"07/07.asf": asf_text().encode(), "07/07_03.amc": amc_text(channels(40)).encode()}
TERMS = {"text": "For research only.", "read_at": "https://example.org/licence"}


@pytest.fixture(autouse=True)
def own_settings(tmp_path, monkeypatch):
    monkeypatch.setenv("POSESCALE_CONFIG", str(tmp_path / "config"))
    monkeypatch.setenv("POSESCALE_DATA", str(tmp_path / "data"))


@pytest.fixture
def give_card(monkeypatch):
    """Replace the card of cmu_mocap by one that names other files and terms."""
    original = catalog.dataset_card("cmu_mocap")

    def give(base, files, **changes):
        card = DatasetCard.model_validate(
            original.model_dump() | {"fetch": {"base": base, "files": files, "delay": 0.5, "disk": 10_000}} | changes
        )
        monkeypatch.setattr(catalog, "_cards", lambda: {"cmu_mocap": card})
        return card

    return give


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "data" / "cmu_mocap"


def _command(*words):
    return CliRunner().invoke(data_command.app, list(words))


def test_a_dataset_is_fetched_noted_and_prepared(give_card, folder, tmp_path):
    pauses = []
    with FileServer(files=FILES) as server:
        give_card(server.url, dict.fromkeys(FILES, {}))
        brought = fetch.fetch("cmu_mocap", pause=pauses.append)
        assert pauses == [0.5] and [p.read_bytes() for p in brought] == list(FILES.values())
        assert fetch.fetch("cmu_mocap") == [] and len(server.behaviour.log) == 2
    notes = lockfile.read_lock(folder).files
    assert {n: e.sha256 for n, e in notes.items()} == {n: sha256(c).hexdigest() for n, c in FILES.items()}
    assert notes["07/07.asf"].source.startswith("http://127.0.0.1:")
    assert verify_originals("cmu_mocap") == {
        "dataset": "cmu_mocap", "hashes_compared": 2, "sequences": 4, "frames": 80, "subjects": 1,
    }  # fmt: skip
    done = _command("verify", "cmu_mocap", "--json")
    assert json.loads(done.stdout)[0]["frames"] == 80, done.output
    assert catalog.prepare("cmu_mocap", tmp_path / "prepared").sequences


def test_a_broken_fetch_keeps_what_it_has_and_goes_on(give_card, folder):
    with FileServer(files=FILES, answers=[]) as server:
        give_card(server.url, dict.fromkeys(FILES, {}))
        server.behaviour.files = {"07/07.asf": FILES["07/07.asf"]}
        with pytest.raises(FetchError, match=r"07_03\.amc: the server answered 404"):
            fetch.fetch("cmu_mocap", pause=lambda _: None)
        server.behaviour.files = FILES
        assert [p.name for p in fetch.fetch("cmu_mocap")] == ["07_03.amc"]


def test_a_changed_file_is_refused_from_then_on(give_card, folder):
    with FileServer(files=FILES) as server:
        give_card(server.url, dict.fromkeys(FILES, {}))
        fetch.fetch("cmu_mocap", pause=lambda _: None)
        (folder / "07/07_03.amc").write_bytes(b"other")
        for check in (fetch.fetch, check_hashes):
            with pytest.raises(DataError, match=r"07_03\.amc: its SHA-256 is .* when first used"):
                check("cmu_mocap")
        (folder / "07/07_03.amc").unlink()
        server.behaviour.files = FILES | {"07/07_03.amc": b"the server's file changed"}
        with pytest.raises(FetchError, match="expected"):
            fetch.fetch("cmu_mocap")
        server.behaviour.files = FILES
        assert len(fetch.fetch("cmu_mocap")) == 1


def test_a_published_hash_goes_before_everything(give_card, folder):
    good = {name: {"sha256": sha256(content).hexdigest()} for name, content in FILES.items()}
    with FileServer(files=FILES | {"07/07.asf": b"not it"}) as server:
        give_card(server.url, good)
        with pytest.raises(FetchError, match=f"expected {good['07/07.asf']['sha256']}"):
            fetch.fetch("cmu_mocap")
        (folder / "07").mkdir(parents=True, exist_ok=True)
        (folder / "07/07.asf").write_bytes(b"put there by hand")
        with pytest.raises(DataError, match="the published file's is"):
            fetch.fetch("cmu_mocap")


def test_files_put_there_by_hand_are_noted_and_not_fetched(give_card, folder):
    (folder / "07").mkdir(parents=True)
    (folder / "07/07.asf").write_bytes(FILES["07/07.asf"])
    with FileServer(files=FILES) as server:
        give_card(server.url, dict.fromkeys(FILES, {}))
        assert [p.name for p in fetch.fetch("cmu_mocap")] == ["07_03.amc"]
    assert lockfile.read_lock(folder).files["07/07.asf"].source == "a file that was already here"


def _zip(members):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return stream.getvalue()


def test_archives_are_unpacked_as_far_as_needed(give_card, folder):
    content = _zip({"set/07/07.asf": b"a", "set/07/images/1.jpg": b"x" * 1000, "set/08/08.asf": b"b"})
    with FileServer(files={"all.zip": content}) as server:
        give_card(server.url, {"all.zip": {"extract": "set/*/*.asf"}})
        brought = fetch.fetch("cmu_mocap")
        assert [p.relative_to(folder).as_posix() for p in brought] == ["set/07/07.asf", "set/08/08.asf"]
        assert not (folder / "all.zip").exists() and not (folder / "set/07/images").exists()
        assert fetch.fetch("cmu_mocap") == [] and len(server.behaviour.log) == 1
        (folder / "set/08/08.asf").unlink()
        assert len(fetch.fetch("cmu_mocap")) == 2 and len(server.behaviour.log) == 2
    (folder / "all.zip").write_bytes(content)  # unpacking was cut short, or a person put it there
    (folder / "set/07/07.asf").unlink()
    assert fetch.fetch("cmu_mocap") == [] and (folder / "set/07/07.asf").read_bytes() == b"a"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"no zip at all", "not a zip archive"),
        (_zip({"other.txt": b""}), "holds nothing like"),
        (_zip({"../e.asf": b""}), "outside"),
    ],
)
def test_wrong_archives_are_refused(give_card, folder, content, words):
    with FileServer(files={"all.zip": content}) as server:
        give_card(server.url, {"all.zip": {"extract": "*.asf"}})
        with pytest.raises(FetchError, match=words):
            fetch.fetch("cmu_mocap")
    assert not (folder.parent / "e.asf").exists()


def test_room_permission_and_company(give_card, folder, monkeypatch):
    with FileServer(files=FILES) as server:
        give_card(server.url, dict.fromkeys(FILES, {"bytes": 10**18}))
        with pytest.raises(FetchError, match=r"needs about 2000000000\.0 GB"):
            fetch.fetch("cmu_mocap")
        give_card(server.url, dict.fromkeys(FILES, {}))
        hold = (
            "import fcntl, sys; f = open(sys.argv[1], 'w'); fcntl.flock(f, fcntl.LOCK_EX); print(flush=True); input()"
        )
        holder = subprocess.Popen(
            [sys.executable, "-c", hold, str(folder / ".fetch.lock")], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        holder.stdout.readline()
        with pytest.raises(FetchError, match="another fetch is at work"):
            fetch.fetch("cmu_mocap")
        holder.communicate(b"\n")
        (folder.parent / "file").write_text("")
        with pytest.raises(FetchError, match="cannot be written"):
            fetch.fetch("cmu_mocap", folder.parent / "file" / "below")
    monkeypatch.delenv("POSESCALE_DATA")
    with pytest.raises(UnavailableError, match="POSESCALE_DATA"):
        fetch.fetch("cmu_mocap")


def test_what_no_program_can_fetch_says_the_steps(give_card):
    with pytest.raises(UnavailableError, match="cannot be fetched by a program. Nothing to get"):
        fetch.fetch("synthetic_motion")


def test_a_torn_list_of_fetched_files_is_refused(folder):
    folder.mkdir(parents=True)
    (folder / "fetched.json").write_text('{"files": {"a": 1}}')
    with pytest.raises(DataError, match=r"fetched\.json: not a list of fetched files"):
        lockfile.read_lock(folder)


def test_a_licence_is_accepted_once(give_card, folder, tmp_path):
    with FileServer(files=FILES) as server:
        give_card(server.url, dict.fromkeys(FILES, {}), terms=TERMS)
        for words in (["fetch", "cmu_mocap"], ["prepare", "cmu_mocap", "--out", str(tmp_path / "p")]):
            refused = _command(*words).exception
            assert isinstance(refused, ConsentError)
            for part in ("For research only.", "https://example.org/licence", "--accept-licence", "consent.json"):
                assert part in str(refused)
        assert server.behaviour.log == []
        assert _command("fetch", "cmu_mocap", "--accept-licence", "--json").exit_code == 0
        assert _command("prepare", "cmu_mocap", "--out", str(tmp_path / "p")).exit_code == 0
    (noted,) = json.loads((tmp_path / "config" / "consent.json").read_text())
    assert noted["dataset"] == "cmu_mocap" and len(noted["terms_sha256"]) == 64 and noted["version"] and noted["date"]
    give_card("http://127.0.0.1:9/", dict.fromkeys(FILES, {}), terms=TERMS | {"text": "For you alone."})
    with pytest.raises(ConsentError, match="For you alone"):
        catalog.prepare("cmu_mocap", tmp_path / "p")


def test_a_person_is_asked(give_card):
    asked = []
    terms = consent.Terms(**TERMS)
    with pytest.raises(ConsentError):
        consent.require("cmu_mocap", terms, ask=lambda words: asked.append(words))
    consent.require("cmu_mocap", terms, ask=lambda words: not asked.append(words))
    consent.require("cmu_mocap", terms, ask=lambda words: not asked.append(words))
    assert len(asked) == 2 and "example.org" in asked[0]
    consent.consent_file().write_text("{")
    with pytest.raises(DataError, match=r"consent\.json: not a list of accepted licences"):
        consent.accepted("cmu_mocap", terms)


def test_the_table_shows_what_is_left_to_do(give_card, folder):
    app = typer.Typer()
    app.command()(datasets_command)
    give_card("http://127.0.0.1:9/", dict.fromkeys(FILES, {}), terms=TERMS)
    (row,) = json.loads(CliRunner().invoke(app, ["cmu_mocap", "--json"]).stdout)
    assert "licence is not accepted" in row["status"] and row["licence_at"] == TERMS["read_at"]
    assert row["fetchable"] and row["next_step"].startswith("`posescale data fetch cmu_mocap`")
    assert isinstance(CliRunner().invoke(app, ["cmu"]).exception, UnavailableError)


def test_the_card_of_cmu_names_every_labelled_trial_with_its_skeleton():
    names = set(catalog.dataset_card("cmu_mocap").fetch.files)
    trials = {trial for trials in ACTIONS.values() for trial in trials if trial[0].isdigit()}
    subjects = {trial.split("_")[0] for trial in trials}
    assert names == {f"{t.split('_')[0]}/{t}.amc" for t in trials} | {f"{s}/{s}.asf" for s in subjects}


def test_the_cache_sees_a_changed_file_deep_in_the_folder_and_no_notes(give_card, folder, monkeypatch, tmp_path):
    import os

    import platformdirs

    from posescale.data import cache

    monkeypatch.setattr(platformdirs, "user_cache_dir", lambda _: str(tmp_path / "cache"))
    with FileServer(files=FILES) as server:
        give_card(server.url, dict.fromkeys(FILES, {}))
        fetch.fetch("cmu_mocap", pause=lambda _: None)
    first = cache.prepared("cmu_mocap")
    lockfile.record(folder, "07/07.asf", "again")
    assert cache.prepared("cmu_mocap") == first
    os.utime(folder / "07/07_03.amc", (1, 1))
    assert cache.prepared("cmu_mocap") != first


def test_what_is_left_to_a_person_is_said_after_a_fetch(give_card, monkeypatch):
    with FileServer(files=FILES) as server:
        give_card(server.url, dict.fromkeys(FILES, {}))
        card = catalog.dataset_card("cmu_mocap")
        noted = card.model_copy(update={"fetch": card.fetch.model_copy(update={"note": "The rest by hand."})})
        monkeypatch.setattr(catalog, "_cards", lambda: {"cmu_mocap": noted})
        done = _command("fetch", "cmu_mocap")
    assert done.exit_code == 0 and "The rest by hand." in done.output
