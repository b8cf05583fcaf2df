"""How a program ends, or leaves its folder, while it records."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings

import h5py
import pytest
import torch

import gradscope
from gradscope.errors import RecordingError
from gradscope.store.write.writer import RecordingWriter
from tests.helpers import synthetic_columns, write_recording
from tests.record.loops.training_loops import mlp

PROGRAM = """
import gc, os, sys, torch, gradscope
import torch._dynamo, gradscope.record.recorder  # once for all, before the process is copied
from gradscope.record.measure.choose import choose_backend

choose_backend(torch.device("cpu"))
gc.freeze()  # no copy walks at its end what all have imported

for number, end in enumerate(sys.argv[1:]):
    if os.fork() == 0:
        os.mkdir(str(number))
        os.chdir(str(number))
        break
    print(os.waitstatus_to_exitcode(os.wait()[1]))
else:
    sys.exit()

model = torch.nn.Linear(6, 4)
optimizer = torch.optim.Adam(model.parameters())

def step():
    optimizer.zero_grad()
    model(torch.randn(5, 6)).square().mean().backward()
    optimizer.step()

recorder = gradscope.Recorder(model, optimizer, "run.h5")
for _ in range(3):
    step()
exec(end)
"""
ENDS = {
    "": ("finished", 0, 3),
    "sys.exit(0)": ("finished", 0, 3),
    "1 / 0": ("failed", 1, 3),
    "os.mkdir('x'); os.chdir('x'); step()": ("finished", 0, 4),
    "if os.fork() == 0: step(); sys.exit(0)\nos.wait()": ("finished", 0, 3),
}
"""How a program ends: status, exit code and rows."""


def rows(path):
    tree = gradscope.open_recording(path).load()
    return tree["training"].sizes["step"], tree.attrs["status"]


@pytest.mark.slow
def test_a_recorder_that_nobody_closes_keeps_all_rows(tmp_path):
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", PROGRAM, *ENDS],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},  # a copied process has no threads of torch's
    )
    codes = [int(line) for line in done.stdout.split()]
    assert codes == [code for _, code, _ in ENDS.values()], done.stderr
    for number, (status, _, n_rows) in enumerate(ENDS.values()):
        assert rows(tmp_path / str(number) / "run.h5") == (n_rows, status)


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (None, "finished"),
        (SystemExit, "finished"),
        (SystemExit(3), "failed"),
        (KeyboardInterrupt, "interrupted"),
        (ZeroDivisionError, "failed"),
    ],
)
def test_status_of_a_block(tmp_path, error, status):
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def train():
        with gradscope.Recorder(model, optimizer, tmp_path / "run.h5"):
            for _ in range(3):
                model(torch.randn(5, 6)).sum().backward()
                optimizer.step()
                yield
            if error is not None:
                raise error

    if error is None:  # a consumer that leaves early closes the generator
        steps = train()
        next(steps)
        steps.close()
    else:
        with pytest.raises(error if isinstance(error, type) else type(error)):
            list(train())
    assert rows(tmp_path / "run.h5") == (1 if error is None else 3, status)


def test_a_relative_path_is_where_the_program_was(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "elsewhere").mkdir()
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with gradscope.Recorder(model, optimizer, "run.h5") as recorder:
        monkeypatch.chdir("elsewhere")
        model(torch.randn(5, 6)).sum().backward()
        optimizer.step()
        assert recorder.data["training"].sizes["step"] == 1
    assert recorder.path == tmp_path / "run.h5" and rows(tmp_path / "run.h5") == (1, "finished")


def test_a_second_recorder_ends_the_first_and_nothing_is_raised(tmp_path):
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    first = gradscope.Recorder(model, optimizer, tmp_path / "first.h5")
    with pytest.warns(RuntimeWarning, match=r"first\.h5 ends here: another recorder"):
        second = gradscope.Recorder(model, optimizer, tmp_path / "second.h5")
    model(torch.randn(5, 6)).sum().backward()
    optimizer.step()
    for recorder in (first, second):
        recorder.log(loss=1.0)
        recorder.close()
    assert rows(tmp_path / "second.h5") == (1, "finished")


def test_no_warning_of_ours_stops_a_program_that_takes_warnings_for_errors(tmp_path, capsys):
    model, other = mlp(), mlp()
    optimizer = torch.optim.SGD(other.parameters(), lr=0.1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with gradscope.Recorder(
            model, optimizer, tmp_path / "run.h5", custom={"bad": lambda p, g, s: 1 / 0}
        ):
            for _ in range(3):
                other(torch.randn(5, 6)).sum().backward()
                optimizer.step()
                with torch.no_grad():
                    other[0].weight.mul_(0.5)
    assert rows(tmp_path / "run.h5") == (3, "finished")
    said = capsys.readouterr().err
    for words in ("trains none", "custom measure 'bad'", "parameters change between"):
        assert said.count(words) == 1


CALLS = {
    "log": lambda r: r.log(loss=1.0, val_loss="no number"),
    "describe": lambda r: r.describe(seed=1, nonsense=2),
    "advance": lambda r: r.advance(),
    "load_state_dict": lambda r: r.load_state_dict({"step": 1}),
    "pause": lambda r: r.pause(),
    "unpause": lambda r: r.unpause(),
    "flush": lambda r: r.flush(),
    "close": lambda r: r.close("failed"),
    "state_dict": lambda r: r.state_dict()["step"] == 3,
    "step": lambda r: r.step == 3,
    "cost": lambda r: r.cost.bytes > 0,
    "first_nonfinite": lambda r: r.first_nonfinite is None,
    "data": lambda r: r.data["training"].sizes["step"] == 3,
    "plot": lambda r: r.plot() is not None,
    "end": lambda r: None,
    "path": lambda r: r.path.exists(),
}
"""What is public, each called after the end; what is not None must be true."""
SAID = ("log", "describe", "advance", "load_state_dict")


def test_every_call_is_here():
    public = {name for name in dir(gradscope.Recorder) if not name.startswith("_")} | {"path"}
    assert public == set(CALLS)


@pytest.mark.parametrize("call", CALLS)
def test_no_call_after_the_end_stops_a_training(tmp_path, call):
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def step():
        optimizer.zero_grad()
        model(torch.randn(5, 6)).square().mean().backward()
        optimizer.step()

    recorder = gradscope.Recorder(model, optimizer, tmp_path / "run.h5")
    for _ in range(3):
        step()
    recorder.close()
    written = (tmp_path / "run.h5").read_bytes()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(2):
            assert CALLS[call](recorder) in (None, True)
            step()
    said = [str(w.message) for w in caught if "after the end of the recording" in str(w.message)]
    assert len(said) == (call in SAID) == len([w for w in caught if w.category is RuntimeWarning])
    assert all(text.startswith(f"`{call}`") for text in said)
    assert (tmp_path / "run.h5").read_bytes() == written
    assert [path.name for path in tmp_path.iterdir()] == ["run.h5"]


FOREIGN = {
    "text": lambda path: path.write_text("results of somebody else"),
    "hdf5": lambda path: h5py.File(path, "w").create_dataset("x", data=[1.0]).file.close(),
    "recording": lambda path: write_recording(path.parent / "other.h5").rename(path),
    "folder": lambda path: path.mkdir(),
}


@pytest.mark.parametrize("kind", FOREIGN)
@pytest.mark.parametrize("end", ["close", "fail", "interrupt"])
def test_what_is_not_ours_is_never_overwritten(tmp_path, monkeypatch, kind, end):
    """A file appears at the path while the training runs: it stays, and so does the recording."""
    path = tmp_path / "run.h5"
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    recorder = gradscope.Recorder(model, optimizer, path)
    for k in range(4):
        model(torch.randn(5, 6)).sum().backward()
        optimizer.step()
        if k == 1:
            FOREIGN[kind](path)
            (tmp_path / "run-2.h5").write_text("taken too")
            content = path.read_bytes() if path.is_file() else sorted(path.iterdir())
    if end == "fail":
        monkeypatch.setattr(type(recorder), "_finish", lambda *_: 1 / 0)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        recorder.close("interrupted" if end == "interrupt" else None)
    said = [str(w.message) for w in caught if "has appeared while" in str(w.message)]
    assert len(said) == 1 and f"{path} has" in said[0] and "saved as" in said[0]
    assert recorder.path == tmp_path / "run-3.h5"
    n_rows, status = rows(recorder.path)
    assert n_rows == 4
    assert status == {"close": "finished", "fail": "failed", "interrupt": "interrupted"}[end]
    assert content == (path.read_bytes() if path.is_file() else sorted(path.iterdir()))
    assert (tmp_path / "run-2.h5").read_text() == "taken too"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["run-2.h5", "run-3.h5", "run.h5"]
    assert recorder.data["training"].sizes["step"] == 4


def test_data_and_alerts_are_of_the_own_recording_alone(tmp_path):
    """Another recording, of 9 steps and sick, appears at the path while this one is written."""
    path = tmp_path / "run.h5"
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    told = []
    recorder = gradscope.Recorder(model, optimizer, path, on_health=told.append)
    sick, params, _ = synthetic_columns(9, 5, seed=3)
    sick["gradients"]["grad_nonfinite"][:] = 7
    with RecordingWriter(tmp_path / "other.h5") as writer:
        writer.set_axis("param", params)
        for group in ("training", "gradients"):
            writer.append(group, sick[group])
    (tmp_path / "other.h5").rename(path)
    for n_steps in (1, 2):
        model(torch.randn(5, 6)).sum().backward()
        optimizer.step()
        assert recorder.data["training"].sizes["step"] == n_steps
    with pytest.warns(RuntimeWarning, match="has appeared while"):
        recorder.close()
    assert recorder.data["training"].sizes["step"] == 2 and recorder.path != path
    assert gradscope.open_recording(path)["training"].sizes["step"] == 9
    assert "non-finite values" not in [finding.rule for finding in told]


def test_what_is_no_recording_is_not_resumed_and_stays(tmp_path):
    path = tmp_path / "run.h5"
    path.write_text("results of somebody else")
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(RecordingError):
        gradscope.Recorder(model, optimizer, path, if_exists="resume")
    assert path.read_text() == "results of somebody else"
    assert [p.name for p in tmp_path.iterdir()] == ["run.h5"]
