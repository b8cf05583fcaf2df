"""Which recordings arguments mean: files first, then folders and patterns, else the newest."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from gradscope.cli.main import main
from gradscope.cli.recordings import expand, find_recordings, one_recording
from gradscope.errors import UsageError
from tests.helpers import write_recording


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for i, name in enumerate(("runs/sub/a.h5", "runs/b[1].h5", "runs/b1.h5")):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        write_recording(Path(name), 10, 3, seed=i)
        os.utime(name, (1000 + i, 1000 + i))
    return tmp_path


def test_without_a_name_the_newest_is_taken_and_said(folder, capsys):
    os.utime("runs/sub/a.h5", (5000, 5000))
    assert main(["info"]) == 0
    out, err = capsys.readouterr()
    assert err == "gradscope info: runs/sub/a.h5, the newest recording in runs/\n"
    assert out.startswith("runs/sub/a.h5")
    assert main(["plot"]) == 0
    assert capsys.readouterr().out == "runs/sub/a-grad_norm.png\n"


def test_without_a_folder_of_runs_one_line_says_so(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["plot"]) == 2
    assert "name a recording; there is no folder runs/" in capsys.readouterr().err


def test_a_name_with_brackets_is_a_file_before_it_is_a_pattern(folder, capsys):
    assert expand("runs/b[1].h5") == [Path("runs/b[1].h5")]
    assert expand("runs/[b]1.h5") == [Path("runs/b1.h5")]
    assert main(["plot", "runs/b[1].h5"]) == 0
    assert Path("runs/b[1]-grad_norm.png").exists()


def test_folders_and_patterns(folder):
    assert find_recordings(["runs", "runs/*.h5"], "x") == [
        Path("runs/b1.h5"),
        Path("runs/b[1].h5"),
    ]
    assert find_recordings(["runs/**/*.h5"], "x")[-1] == Path("runs/sub/a.h5")
    with pytest.raises(UsageError, match="holds 2 recordings; name one"):
        one_recording("runs", "x")
    with pytest.raises(FileNotFoundError, match=r"no recording matches c\*"):
        expand("c*")


@pytest.mark.parametrize("argument", ["", " ", "\0", "/", "."])
def test_what_is_no_recording_is_one_line(folder, argument):
    os.chdir(folder)
    with pytest.raises(UsageError, match=r"no path; name a recording|there is no recording"):
        expand(argument)
