"""Which recordings arguments mean: files first, then folders and patterns, else the newest."""

from __future__ import annotations

import json
import os
import threading
import time
from pathlib import Path

import pytest

from gradscope.cli.main import main
from gradscope.cli.recordings import expand, find_recordings, one_recording
from gradscope.errors import UsageError
from gradscope.store.write.writer import RecordingWriter
from tests.helpers import synthetic_columns, write_recording


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


def test_folders_are_taken_by_every_command_that_takes_many(folder, capsys):
    assert main(["validate", "runs", "--json"]) == 0
    assert set(json.loads(capsys.readouterr().out)) == {"runs/b1.h5", "runs/b[1].h5"}
    assert main(["plot", "runs", "--width", "page"]) == 0
    assert capsys.readouterr().out == "runs/all-grad_norm.png\n"
    assert main(["report", "runs"]) == 0
    assert capsys.readouterr().out.startswith("runs/all-report.html (")
    assert main(["plot", "runs/b1.h5", "-o", "new/folder/x.png"]) == 0
    assert Path("new/folder/x.png").exists()


def test_overwrite_replaces_and_nothing_else_does(folder, capsys):
    words = ["export", "runs/b1.h5", "--to", "csv", "-o", "x.csv.d"]
    assert main(words) == 0
    Path("x.csv.d/extra").touch()
    assert main(words) == 2
    assert main([*words, "--overwrite", "--json"]) == 0
    assert not Path("x.csv.d/extra").exists()
    Path("mine").mkdir()
    assert main([*words[:-1], "mine", "--overwrite"]) == 2
    assert "it is kept" in capsys.readouterr().err
    repair = ["repair", "runs/b1.h5", "-o", "y.h5"]
    assert [main(repair), main(repair), main([*repair, "--overwrite"])] == [0, 2, 0]


def test_tail_waits_for_a_run_and_streams_lines(folder, capsys):
    columns, params, _ = synthetic_columns(4, 3)

    def train():
        time.sleep(0.3)
        with RecordingWriter("late.h5", attrs={}) as writer:
            writer.set_axis("param", params)
            writer.append("training", {k: v[:2] for k, v in columns["training"].items()})
            writer.flush(wait=True)
            time.sleep(1)
            writer.append("training", {k: v[2:] for k, v in columns["training"].items()})

    thread = threading.Thread(target=train)
    thread.start()
    assert main(["tail", "late.h5", "--every", "0.05", "--json"]) == 0
    thread.join()
    out, err = capsys.readouterr()
    lines = [json.loads(line) for line in out.splitlines()]
    assert "waiting for late.h5" in err
    assert (lines[0]["step"], lines[0]["status"]) == (2, "running")
    assert (lines[-1]["step"], lines[-1]["status"]) == (4, "finished")
    assert lines[-1]["loss"] == pytest.approx(columns["training"]["loss"][-1], rel=1e-3)
    assert main(["tail", "late.h5"]) == 0  # no terminal: one line
    assert capsys.readouterr().out.startswith("step 4  status finished  loss ")


def test_a_folder_that_is_named_like_a_recording_is_passed_over(folder):
    Path("runs/folder.h5").mkdir()
    assert [path.name for path in expand("runs")] == ["b1.h5", "b[1].h5"]


@pytest.mark.parametrize(
    "words",
    [
        ["record", "--resume", "."],
        ["record", "--resume", "/"],
        ["record", ""],
        ["record", "--out", ""],
        ["record", "--tensorboard", ""],
        ["record", "--tensorboard", "runs/b1.h5"],
        ["record", "--wandb", " "],
    ],
)
def test_what_is_no_path_is_one_line(folder, words, capsys):
    assert main([*words, *["--steps", "1"] * (words[1] != "")]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_repair_of_nothing_makes_no_folder(folder, capsys):
    assert main(["repair", "no/such/run.h5"]) == 2
    assert "there is no recording" in capsys.readouterr().err and not Path("no").exists()
