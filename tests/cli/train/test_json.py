"""What ``--json`` says of trainings, held against the recordings."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gradscope.cli.main import main
from gradscope.store.read.recording import open_recording
from tests.helpers import SWEEP_SPEC

TINY = ["--width", "0.05", "--limit-train", "64", "--batch-size", "16", "--steps", "3"]
SCRIPT = """
import sys
import torch
print("from the script")
net = torch.nn.Linear(4, 2)
optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
for step in range(int(sys.argv[1])):
    loss = net(torch.ones(3, 4)).square().mean() * (float("nan") if step == 4 else 1)
    optimizer.zero_grad(); loss.backward(); optimizer.step()
if len(sys.argv) > 2:
    sys.exit(sys.argv[2])
"""


@pytest.fixture
def run(tmp_path, monkeypatch, capfd):
    """Run a command in a folder of its own; returns exit code, stdout and stderr."""
    monkeypatch.chdir(tmp_path)
    Path("train.py").write_text(SCRIPT)
    Path("spec.toml").write_text(SWEEP_SPEC.replace("seeds = 2", "seeds = 1"))

    def run(*words):
        return main(list(words)), *capfd.readouterr()

    return run


def test_a_built_in_run_is_one_line(run):
    code, out, err = run("record", *TINY, "--json", "--out", "a b.h5")
    (line,) = out.splitlines()
    found = json.loads(line)
    (one,) = found["recordings"]
    assert code == found["exit_code"] == 0 and found["problems"] == []
    assert (one["recording"], one["status"], one["n_steps"]) == ("a b.h5", "finished", 3)
    assert one["n_bytes"] == Path("a b.h5").stat().st_size
    with open_recording("a b.h5") as tree:
        assert one["record_seconds"] == tree.attrs["record_seconds"]
        accuracy = float(tree["evaluation"]["test_accuracy"].values[-1])
    assert one["overhead"] == pytest.approx(one["record_seconds"] / one["seconds"])
    assert one["last"]["test_accuracy"] == accuracy
    assert isinstance(one["health"], list) and "epoch 1/1" in err


def test_quiet_leaves_the_line_alone(run):
    code, out, err = run("record", *TINY, "--json", "--quiet", "--out", "run.h5")
    assert code == 0 and len(out.splitlines()) == 1 and err == ""


def test_a_diverged_run_is_valid_json(run):
    _, out, _ = run("record", *TINY[:-1], "60", "--lr", "1e6", "--json", "--out", "run.h5")
    (one,) = json.loads(out, parse_constant=pytest.fail)["recordings"]
    assert one["status"] == "diverged" and one["last"]["loss"] is None
    assert one["health"][0]["severity"] == "error"


def test_of_a_script_it_is_the_last_line(run):
    code, out, err = run("record", "--json", "--out", "run.h5", "train.py", "8")
    first, last = out.splitlines()
    (one,) = json.loads(last)["recordings"]
    assert first == "from the script" and code == 0 and "next: gradscope plot" in err
    assert (one["recording"], one["status"], one["n_steps"]) == ("run.h5", "diverged", 8)
    assert 0 < one["overhead"] < 1
    assert one["health"][0]["rule"] == "non-finite values"


def test_a_script_that_fails_or_trains_nothing(run):
    code, out, _ = run("record", "--json", "--quiet", "--out", "a.h5", "train.py", "3", "5")
    assert code == json.loads(out.splitlines()[-1])["exit_code"] == 1  # sys.exit of a text
    code, out, _ = run("record", "--json", "--quiet", "--out", "b.h5", "train.py", "0")
    found = json.loads(out.splitlines()[-1])
    assert code == 0 and found["recordings"] == [] and "took no step" in found["problems"][0]


def test_a_sweep_prints_json_alone_on_standard_output(run):
    pytest.importorskip("distributed")
    code, out, err = run("sweep", "spec.toml", "--dry-run", "--json")
    plan = json.loads(out)
    assert code == 0 and len(plan["todo"]) == 2 and plan["n_bytes"] > 0 and plan["seconds"] > 0
    code, out, err = run("sweep", "spec.toml", "--json", "--workers", "1")
    found = json.loads(out)
    assert code == 0 and "done: 2 runs" in err and found["n_failed"] == 0
    assert [run["recording"] for run in found["runs"]] == plan["todo"]
    assert all(
        run["status"] == "finished" and "test_accuracy" in run["last"] for run in found["runs"]
    )
