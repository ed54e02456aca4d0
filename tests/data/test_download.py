"""Downloads from a server that breaks, stalls, lies and refuses."""

import email.utils
import json
import random
import shutil
import signal
import subprocess
import sys
import time
from hashlib import sha256
from pathlib import Path

import pytest
from file_server import FileServer

from posescale.data.download import Policy, download, new_session
from posescale.errors import FetchError

CONTENT = random.Random(0).randbytes(300_000)
HASH = sha256(CONTENT).hexdigest()


@pytest.fixture
def waits():
    return []


@pytest.fixture
def policy(waits):
    return Policy(connect=2, read=0.5, tries=4, sleep=waits.append)


def fetch(server, target, policy, **options):
    return download(new_session(), server.url + "f.bin", target, policy=policy, **options)


def left_behind(target):
    return sorted(p.name for p in target.parent.iterdir())


def test_a_file_arrives_whole_and_the_server_knows_who_asked(tmp_path, policy):
    seen = []
    with FileServer(files={"f.bin": CONTENT}) as server:
        found = fetch(server, tmp_path / "new" / "f.bin", policy, progress=lambda *now: seen.append(now))
        path, headers = server.behaviour.log[0]
    assert found == HASH and (tmp_path / "new" / "f.bin").read_bytes() == CONTENT
    assert left_behind(tmp_path / "new" / "f.bin") == ["f.bin"]
    assert headers["User-Agent"].startswith("posescale/") and headers["Accept-Encoding"] == "identity"
    assert seen[-1] == (len(CONTENT), len(CONTENT)) and seen == sorted(seen)


@pytest.mark.parametrize("length", [True, False], ids=["length told", "length untold"])
def test_a_broken_connection_is_gone_on_with(tmp_path, policy, waits, length):
    with FileServer(files={"f.bin": CONTENT}, break_after=[100_000, 50_000], length=length) as server:
        if not length:  # nothing but the hash can show that such a body is short
            with pytest.raises(FetchError, match="expected"):
                fetch(server, tmp_path / "f.bin", policy, sha256=HASH)
            assert not (tmp_path / "f.bin").exists()
            return
        fetch(server, tmp_path / "f.bin", policy)
        assert server.ranges_asked() == [None, "bytes=100000-", "bytes=150000-"]
        assert server.behaviour.log[1][1]["If-Range"] == f'"{HASH[:8]}"'
    assert (tmp_path / "f.bin").read_bytes() == CONTENT
    assert waits == [1.0, 2.0]


def test_a_server_without_ranges_begins_again(tmp_path, policy):
    with FileServer(files={"f.bin": CONTENT}, break_after=[100_000], ranges=False) as server:
        fetch(server, tmp_path / "f.bin", policy)
        assert server.ranges_asked() == [None, "bytes=100000-"]
    assert (tmp_path / "f.bin").read_bytes() == CONTENT


def test_a_file_that_changed_in_between_is_not_mixed(tmp_path, policy):
    with FileServer(files={"f.bin": CONTENT}, break_after=[100_000]) as server:
        with pytest.raises(FetchError, match=r"kept; run the same command again"):
            fetch(server, tmp_path / "f.bin", Policy(tries=1))
        assert left_behind(tmp_path / "f.bin") == [".f.bin.partial", ".f.bin.partial.json"]
        server.behaviour.files["f.bin"] = changed = CONTENT[::-1]
        fetch(server, tmp_path / "f.bin", policy)
    assert (tmp_path / "f.bin").read_bytes() == changed


@pytest.mark.parametrize("known", [True, False], ids=["hash known", "hash unknown"])
def test_without_a_validator_only_a_known_hash_allows_to_go_on(tmp_path, policy, known):
    with FileServer(files={"f.bin": CONTENT}, break_after=[100_000], validators=False) as server:
        fetch(server, tmp_path / "f.bin", policy, sha256=HASH if known else None)
        assert server.ranges_asked() == [None, "bytes=100000-" if known else None]
    assert (tmp_path / "f.bin").read_bytes() == CONTENT


def test_a_part_of_another_address_is_not_used(tmp_path, policy):
    (tmp_path / ".f.bin.partial").write_bytes(b"x" * 1000)
    (tmp_path / ".f.bin.partial.json").write_text(json.dumps({"url": "http://elsewhere/", "validator": '"a"'}))
    with FileServer(files={"f.bin": CONTENT}) as server:
        fetch(server, tmp_path / "f.bin", policy)
        assert server.ranges_asked() == [None]
    assert (tmp_path / "f.bin").read_bytes() == CONTENT


@pytest.mark.parametrize(("extra", "size"), [(b"", 300_000), (b"more", 300_004)])
def test_a_part_as_long_as_the_file_is_whole_and_a_longer_one_is_not(tmp_path, policy, extra, size):
    with FileServer(files={"f.bin": CONTENT}) as server:
        (tmp_path / ".f.bin.partial").write_bytes(CONTENT + extra)
        (tmp_path / ".f.bin.partial.json").write_text(
            json.dumps({"url": server.url + "f.bin", "validator": f'"{HASH[:8]}"'})
        )
        fetch(server, tmp_path / "f.bin", policy)
        assert server.ranges_asked() == [f"bytes={size}-"] + ([None] if extra else [])
    assert (tmp_path / "f.bin").read_bytes() == CONTENT


def test_a_wrong_hash_is_refused_and_nothing_is_kept(tmp_path, policy):
    with FileServer(files={"f.bin": CONTENT}) as server:
        with pytest.raises(FetchError, match=rf"300,000 bytes that came have SHA-256 {HASH}, expected {'0' * 64}"):
            fetch(server, tmp_path / "f.bin", policy, sha256="0" * 64)
    assert left_behind(tmp_path / "f.bin") == []


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (404, "moved or is gone"),
        (410, "moved or is gone"),
        (403, "registration"),
        (401, "registration"),
        (418, "expected 200"),
    ],
)
def test_refusals_are_told_at_once(tmp_path, policy, waits, status, words):
    with FileServer(files={"f.bin": CONTENT}, answers=[(status, {})]) as server:
        with pytest.raises(FetchError, match=rf"f\.bin: the server answered {status}.*{words}"):
            fetch(server, tmp_path / "f.bin", policy)
        assert len(server.behaviour.log) == 1 and waits == []


def test_a_web_page_is_not_the_file(tmp_path, policy):
    with FileServer(files={"f.bin": b"<html>sign in</html>"}, content_type="text/html; charset=utf-8") as server:
        with pytest.raises(FetchError, match="web page instead"):
            fetch(server, tmp_path / "f.bin", policy)
    assert left_behind(tmp_path / "f.bin") == []


def test_a_busy_server_is_waited_for_as_long_as_it_says(tmp_path, policy, waits):
    soon = email.utils.formatdate(time.time() + 30, usegmt=True)
    answers = [(503, {"Retry-After": "7"}), (429, {"Retry-After": soon}), (500, {})]
    with FileServer(files={"f.bin": CONTENT}, answers=answers) as server:
        fetch(server, tmp_path / "f.bin", policy)
    assert waits[0] == 7 and 25 < waits[1] <= 30 and waits[2] == 4.0


def test_too_much_patience_is_not_had(tmp_path, policy, waits):
    with FileServer(files={"f.bin": CONTENT}, answers=[(503, {"Retry-After": "86400"})]) as server:
        with pytest.raises(FetchError, match="86,400 seconds"):
            fetch(server, tmp_path / "f.bin", policy)
    assert waits == []


def test_it_gives_up_in_the_end(tmp_path, policy, waits):
    with FileServer(files={"f.bin": CONTENT}, answers=[(500, {})] * 9) as server:
        with pytest.raises(FetchError, match=r"answered 500.*\(4 tries in a row\)"):
            fetch(server, tmp_path / "f.bin", policy)
    assert waits == [1.0, 2.0, 4.0]


def test_a_silent_server_is_told_from_a_slow_one(tmp_path):
    slow = Policy(read=0.5, tries=1)
    with FileServer(files={"f.bin": CONTENT[:60_000]}, pause=0.1) as server:  # slow, but never silent for long
        fetch(server, tmp_path / "slow.bin", slow)
    with FileServer(files={"f.bin": CONTENT}, pause=2.0) as server:
        with pytest.raises(FetchError, match=r"stayed silent for 0\.5 seconds"):
            fetch(server, tmp_path / "silent.bin", slow)
    assert (tmp_path / ".silent.bin.partial").stat().st_size > 0


def test_nobody_there(tmp_path, policy):
    with pytest.raises(FetchError, match="connection failed or broke.*[Rr]efused"):
        download(new_session(), "http://127.0.0.1:9/f.bin", tmp_path / "f.bin", policy=policy)
    with pytest.raises(FetchError, match="cannot be asked for"):
        download(new_session(), "nonsense", tmp_path / "f.bin", policy=policy)


def test_room_is_looked_at_before_writing(tmp_path, policy, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10, 9, 1))
    with FileServer(files={"f.bin": CONTENT}) as server:
        with pytest.raises(FetchError, match="300,000 bytes are still to come, but only 1 are free"):
            fetch(server, tmp_path / "f.bin", policy)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_told(tmp_path, policy):
    (tmp_path / ".f.bin.partial").symlink_to("/dev/full")
    with FileServer(files={"f.bin": CONTENT}) as server, pytest.raises(FetchError, match="disk is full"):
        fetch(server, tmp_path / "f.bin", policy)


def test_a_killed_download_goes_on(tmp_path):
    code = (
        "import sys; from pathlib import Path; from posescale.data.download import *;"
        "download(new_session(), sys.argv[1], Path(sys.argv[2]))"
    )
    target = tmp_path / "f.bin"
    with FileServer(files={"f.bin": CONTENT}, pause=0.1) as server:
        command = [sys.executable, "-c", code, server.url + "f.bin", str(target)]
        process = subprocess.Popen(command)
        partial = tmp_path / ".f.bin.partial"
        deadline = time.monotonic() + 60
        while process.poll() is None and not (partial.exists() and partial.stat().st_size > 40_000):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
        process.wait()
        here = partial.stat().st_size
        assert 40_000 < here < len(CONTENT) and not target.exists()
        server.behaviour.pause = 0
        subprocess.run(command, check=True, timeout=60)
        assert server.ranges_asked() == [None, f"bytes={here}-"]
    assert target.read_bytes() == CONTENT
