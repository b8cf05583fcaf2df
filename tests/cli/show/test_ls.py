"""The table of recordings: aligned in a terminal, tabs elsewhere."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from gradscope.cli.main import main
from gradscope.store.read.recording import open_recording
from tests.helpers import write_recording

ROOT = Path(__file__).parents[3]
NAMES = ("a  b", "x" * 90, "tab\tand\nline")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    for i, name in enumerate(NAMES):
        settings = json.dumps({"alpha": (0, 0.5, -0.25)[i], **dict.fromkeys("bcdefgh", i)})
        write_recording(folder / f"{name}.h5", 1200, 3, seed=i, config_json=settings)
    (folder / "broken.h5").write_bytes(b"no HDF5")
    return folder


def piped(folder, *words):
    command = [sys.executable, "-m", "gradscope.cli.main", "ls", str(folder), *words]
    env = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "40"}
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
    return done.stdout


def test_in_a_pipe_every_run_is_one_line_of_cells(folder):
    table = pd.read_csv(io.StringIO(piped(folder, "--health")), sep="\t", index_col="run")
    assert list(table.index) == ["a  b", "broken", "tab and line", "x" * 90]
    head = ["status", "step", "loss", "accuracy", "duration", "health"]
    assert list(table.columns[:6]) == head and "h" in table.columns
    with open_recording(folder / f"{NAMES[0]}.h5") as tree:
        loss = float(tree["training"]["loss"].values[-1])
    row = table.loc["a  b"]
    assert (row["status"], row["step"], row["alpha"]) == ("finished", 1200, 0)
    assert row["loss"] == pytest.approx(loss, rel=1e-5)
    assert table.loc["broken"].drop("status").drop("health").isna().all()


def test_in_a_terminal_columns_are_aligned(folder, capsys, monkeypatch):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "300")
    assert main(["ls", str(folder)]) == 0
    text = re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out)
    lines = [line for line in text.splitlines() if line.strip()]
    assert len(lines) == 2 + 4
    place = lines[0].index("status")
    assert all(line[place - 2 : place] == "  " for line in lines[2:])
    assert "1,200" in lines[2]


def test_an_empty_folder_is_said_on_standard_error(tmp_path, capsys):
    assert main(["ls", str(tmp_path)]) == 0
    out, err = capsys.readouterr()
    assert out == "" and "there is no recording in" in err
