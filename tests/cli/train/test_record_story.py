"""``gradscope record`` with a run's own story, and ended by a health rule."""

from __future__ import annotations

import pytest

from gradscope.cli import main as cli
from gradscope.record.health import watch
from gradscope.store.read.recording import open_recording

TINY = ["--width", "0.05", "--limit-train", "64", "--batch-size", "16", "--steps", "3"]
STORY = ["--name", "first", "--tag", "a", "--tag", "b", "--notes", "why not"]
SCRIPT = """
import time, torch
model = torch.nn.Linear(3, 2)
optimizer = torch.optim.SGD(model.parameters(), lr=1e30)
for step in range(100000):
    optimizer.zero_grad()
    model(torch.ones(4, 3)).square().mean().backward()
    optimizer.step()
    time.sleep(0.001)
print("went on to the end")
"""


@pytest.fixture
def record(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(watch, "SECONDS", 0.2)
    monkeypatch.setattr(watch.HealthWatch.__init__, "__kwdefaults__", {"seconds": 0.2})
    return lambda *words: (cli.main(["record", *words]), *capfd.readouterr())


def story_of(path):
    attrs = open_recording(path).attrs
    return attrs["run_name"], attrs["tags"], attrs["notes"]


def test_the_story_is_in_the_recording_of_either_kind(record, tmp_path):
    assert record(*TINY, *STORY, "--out", "run.h5")[0] == 0
    assert story_of("run.h5") == ("first", "a, b", "why not")
    short = SCRIPT.replace("100000", "2").replace("1e30", "1e-3")
    (tmp_path / "train.py").write_text(short)
    assert record(*STORY, "--out", "script.h5", "train.py")[0] == 0
    assert story_of("script.h5") == ("first", "a, b", "why not")


def test_a_rule_ends_a_script_with_code_3_and_its_reason_in_the_file(record, tmp_path):
    (tmp_path / "train.py").write_text(SCRIPT)
    words = ["--stop-on", "non-finite-values", "--out", "run.h5", "train.py"]
    code, out, err = record(*words)
    attrs = open_recording("run.h5").attrs
    assert code == 3 and "went on" not in out
    assert "gradscope record: stopped, as --stop-on asks: non-finite values: " in err
    assert (attrs["status"], attrs["is_complete"]) == ("interrupted", 1)
    assert attrs["stop_reason"].startswith("non-finite values: ")


@pytest.mark.parametrize("words", [["train.py"], [*TINY, "--lr", "1e6", "--no-batch-norm"]])
def test_what_ended_before_a_rule_was_asked_has_code_3_too(record, tmp_path, monkeypatch, words):
    monkeypatch.setattr(watch.HealthWatch.__init__, "__kwdefaults__", {"seconds": 600})
    (tmp_path / "train.py").write_text(SCRIPT.replace("100000", "30"))
    code, out, err = record("--stop-on", "non-finite-values", "--out", "run.h5", *words)
    assert code == 3 and ("went on to the end" in out) == (words == ["train.py"])
    assert "the training had ended before --stop-on could stop it: non-finite values: " in err


def test_a_severity_ends_the_built_in_experiment(record):
    options = ["--steps", "20000", "--lr", "0", "--no-batch-norm", "--stop-on", "warning"]
    code, out, err = record(*TINY, *options, "--out", "run.h5")
    attrs = open_recording("run.h5").attrs
    assert code == 3 and "interrupted at step" in out
    assert attrs["status"] == "interrupted" and attrs["stop_reason"] in err


def test_rules_are_named_and_unknown_ones_refused(record):
    code, out, _ = record("--stop-on", "list")
    assert code == 0 and "vanishing gradients: " in out
    code, _, err = record("--stop-on", "vanishing gradient")
    assert code == 2 and "did you mean 'vanishing gradients'" in err
