"""What ``gradscope record SCRIPT`` says when there is nothing to record, or something fails."""

from __future__ import annotations

import pytest
import torch

import gradscope
from gradscope.cli import main as cli
from tests.helpers import write_recording
from tests.record.autolog.running import in_a_process, losses_printed


@pytest.mark.parametrize(
    ("source", "why"),
    [
        ("import torch", "the script made no torch optimizer in this process (what it updates"),
        (
            "import torch\nm = torch.nn.Linear(2, 2)\no = torch.optim.Adam(m.parameters())\n"
            "m(torch.ones(1, 2))",
            "1 optimizer was made but took no step that can be seen in this process",
        ),
    ],
)
def test_why_nothing_was_recorded_is_said(record, tmp_path, source, why):
    (tmp_path / "idle.py").write_text(source)
    code, _, err, trees = record(tmp_path / "idle.py")
    assert (code, trees) == (0, [])
    assert f"gradscope record: nothing was recorded: {why}" in err
    assert [p.name for p in tmp_path.iterdir()] == ["idle.py"]


def test_a_script_that_records_itself(record, tmp_path):
    _, _, err, [tree] = record("programs/own.py", "runs.h5")
    assert tree.attrs["status"] == "finished" and tree["training"].sizes["step"] == 2
    assert "the script attaches a recorder of its own" in err


def test_a_failure_of_ours_is_not_the_end_of_the_training(record, tmp_path):
    write_recording(tmp_path / "run-2.h5", n_steps=7)
    _, out, err, trees = record("loops/folds.py", options=["--record", "light"])
    assert out.strip().endswith("alive [False, False, True]")
    assert "warning: RecordingExistsError" in err and "run-2.h5" in err
    assert [tree["training"].sizes["step"] for tree in trees] == [7, 110, 110]


def test_a_recording_that_cannot_be_finished_does_not_change_the_end(record, monkeypatch):
    close = gradscope.Recorder.close

    def fail(recorder, status):
        close(recorder, status)
        raise OSError("the disk is full")

    monkeypatch.setattr(gradscope.Recorder, "close", fail)
    code, out, err, _ = record("programs/short.py")
    assert code == 5 and out == "done\n"
    assert "warning:" in err and "run.h5 was not finished: the disk is full" in err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["absent.py"], "there is no script 'absent.py'"),
        (["-m", "absent_package.train"], "there is no module 'absent_package.train'"),
        (["--lr", "3", "train.py"], "--lr belongs to the built-in experiment and means nothing"),
        (["--config", "x.toml", "train.py"], "--config belongs to the built-in experiment"),
        (["--record", "ful", "train.py"], "unknown value of --record 'ful'; did you mean 'full'"),
        (["--every", "0", "train.py"], "`every` must be a whole number of at least 1, or auto"),
        (["--out", ".", "train.py"], "is a folder; name a file"),
        (["--record", "light"], "--record applies to a SCRIPT"),
    ],
)
def test_a_users_mistake_is_one_line_and_code_2(tmp_path, monkeypatch, capsys, words, message):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["record", *words]) == 2
    err = capsys.readouterr().err
    assert message in err and err.count("\n") == 1


def test_a_gradscope_that_cannot_be_loaded_is_not_the_end_of_the_script(tmp_path):
    (tmp_path / "h5py.py").write_text("raise ImportError('no HDF5 here')")
    (tmp_path / "own.py").write_text("import torch\nprint('the end', torch.ones(1))")
    done = in_a_process(tmp_path, "own.py")
    assert (done.returncode, done.stdout) == (0, "the end tensor([1.])\n")
    assert "nothing was recorded: gradscope could not start: ImportError: no HDF5" in done.stderr


@pytest.mark.parametrize(
    "hook", ["see_optimizer", "see_scaler", "see_call", "see_compiler", "before_step", "after_step"]
)
def test_a_failure_in_a_hook_is_not_the_end_of_the_training(record, monkeypatch, hook):
    def fail(*_):
        raise ZeroDivisionError("in a hook")

    monkeypatch.setattr(f"gradscope.record.autolog.session.Session.{hook}", fail)
    torch.compiler.reset()
    code, out, err, _ = record("loops/gpt.py", "--compile", options=["--overwrite"])
    assert code == 0 and losses_printed(out)
    assert "ZeroDivisionError: in a hook" in err


def test_a_failure_while_the_loss_is_noted_is_not_the_end_of_the_training(record, monkeypatch):
    def fail(*_):
        raise ZeroDivisionError

    monkeypatch.setattr("gradscope.record.autolog.backward_loss.LossWatch._see", fail)
    with pytest.warns(RuntimeWarning, match="no longer records the loss: ZeroDivisionError"):
        code, _, _, [tree] = record("loops/roots.py")
    assert code == 0 and tree["training"].sizes["step"] == 3 and "loss" not in tree["training"]


def test_the_loss_of_several_roots_is_their_sum(record):
    _, out, _, [tree] = record("loops/roots.py")
    assert tree["training/loss"].values.tolist() == pytest.approx(losses_printed(out), rel=1e-6)
