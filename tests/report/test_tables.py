from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from gradscope.derived.health.rule import Finding
from gradscope.report.tables import compare, describe_finding, describe_run, text
from gradscope.store.read.recording import open_recording
from tests.helpers import synthetic_recording, write_recording


def test_a_run_in_words():
    run = describe_run(synthetic_recording(30, 5), "first")
    facts = dict(run["facts"])
    assert run["title"] == "plain · made-up · SMES"
    assert facts["status"] == "finished" and facts["seed"] == "0" and facts["last step"] == "30"
    assert run["configuration"] == [("alpha", "-0.1"), ("epochs", "2")]
    assert dict(run["hyperparameters"])["lr"] == "0.1 (step 30)"
    assert dict(run["recorded"])["gradients"].startswith("30 rows, steps 1 to 30, ")
    assert not run["is_partial"]


def test_the_last_values_are_those_of_the_recording():
    tree = synthetic_recording(30, 5)
    run = describe_run(tree, "first")
    expected = float(tree["evaluation/val_accuracy"][-1])
    assert run["metrics"]["val_accuracy"] == f"{expected:.6g} (step 30)"


def test_an_empty_recording_can_be_described():
    run = describe_run(xr.DataTree(), "nothing")
    assert run["status"] == "unknown" and run["n_steps"] == 0 and run["is_partial"]
    assert run["configuration"] == run["recorded"] == [] and run["metrics"] == {}


def test_what_differs_and_how_runs_ended(tmp_path):
    files = [write_recording(tmp_path / f"{seed}.h5", 10, 3, seed=seed) for seed in (1, 2)]
    trees = [open_recording(file) for file in files]
    runs = [
        describe_run(tree, file.stem) | {"path": file}
        for tree, file in zip(trees, files, strict=True)
    ]
    table = compare(trees, runs)
    assert table["settings"] == ["seed"] and table["setting_rows"] == [["1"], ["2"]]
    losses = [row[table["metrics"].index("loss")] for row in table["metric_rows"]]
    expected = [f"{float(tree['training/loss'][-1]):.6g} (step 10)" for tree in trees]
    assert losses == expected and losses[0] != losses[1]
    for tree in trees:
        tree.close()


def test_a_finding_names_a_few_layers_and_counts_the_rest():
    layers = tuple(f"layer{i}" for i in range(20))
    found = describe_finding(Finding("dead ReLU", "warning", "seen", layers, 3, None, "try"))
    assert found["layers"].endswith("layer5 and 14 more") and found["last_step"] == 3
    assert describe_finding(Finding("stalled", "note", "seen"))["first_step"] is None


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (None, "–"),
        (float("nan"), "–"),
        ("", "–"),
        (0.1 + 0.2, "0.3"),
        (np.int64(7), "7"),
        (np.float64("nan"), "–"),
        ([0.1, None], "0.1, –"),
        (Path("a"), "a"),
        (1234567.0, "1.23457e+06"),
    ],
)
def test_values_as_text(value, words):
    assert text(value) == words
