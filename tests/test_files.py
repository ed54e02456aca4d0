"""Files are written whole or not at all."""

import os

import pytest

from posescale.files import whole_file, write_whole


def test_the_content_is_there_with_its_folder_and_the_usual_rights(tmp_path):
    path = tmp_path / "new" / "f.json"
    write_whole(path, "ä\n")
    assert path.read_bytes() == "ä\n".encode()
    write_whole(path, b"\x00")
    assert path.read_bytes() == b"\x00" and [p.name for p in path.parent.iterdir()] == ["f.json"]
    (tmp_path / "usual").write_text("")
    assert path.stat().st_mode == (tmp_path / "usual").stat().st_mode


def test_while_it_is_written_the_earlier_one_stands(tmp_path):
    path = tmp_path / "f"
    write_whole(path, "old")
    with whole_file(path) as stream:
        stream.write(b"new")
        stream.flush()
        assert path.read_text() == "old"
    assert path.read_text() == "new"


@pytest.mark.parametrize("error", [OSError("no space left on device"), KeyboardInterrupt()], ids=repr)
def test_nothing_is_left_of_a_file_that_did_not_come_to_an_end(tmp_path, monkeypatch, error):
    path = tmp_path / "f"
    write_whole(path, "old")

    def fails(_descriptor):
        raise error

    monkeypatch.setattr(os, "fsync", fails)
    with pytest.raises(type(error)):
        write_whole(path, "new")
    assert path.read_text() == "old" and [p.name for p in tmp_path.iterdir()] == ["f"]
