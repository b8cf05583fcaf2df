"""A program that is recorded sees, says and ends what it does without gradscope."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import pytest

import gradscope
from tests.record.autolog.running import ROOT, SCRIPTS, alone, in_a_process


def test_children_are_left_alone(tmp_path):
    result = in_a_process(tmp_path, "--out", "run.h5", str(SCRIPTS / "programs/children.py"))
    assert (result.returncode, result.stdout) == (0, "fork 0\nspawn 0\n")
    assert [p.name for p in tmp_path.iterdir()] == ["run.h5"]
    assert gradscope.open_recording(tmp_path / "run.h5")["training"].sizes["step"] == 2


@pytest.mark.parametrize("end", ["fine", "raise", "text", "code", "hook", "interrupt"])
def test_a_program_sees_and_ends_as_without_us(tmp_path, end):
    script = str(SCRIPTS / "programs/manners.py")
    ours, theirs = (
        in_a_process(tmp_path, script, end, text="in"),
        alone(tmp_path, script, end, text="in"),
    )
    assert ours.stdout == theirs.stdout and '"torch": false' in ours.stdout
    told = ours.stderr.split("gradscope record: ")
    assert told[0] == theirs.stderr
    assert told[1].startswith("nothing was recorded: the script did not import torch")
    expected = 130 if end == "interrupt" else theirs.returncode
    assert ours.returncode == expected


def test_a_script_that_cannot_be_read_is_told_as_python_tells_it(tmp_path):
    (tmp_path / "script.py").write_text("import math\nprint('a' 'b'\n")
    (tmp_path / "imports.py").write_text("import script\n")
    for name in ("script.py", "imports.py"):
        script = str(tmp_path / name)
        ours, theirs = in_a_process(tmp_path, script), alone(tmp_path, script)
        assert ours.stderr.split("gradscope record: ")[0] == theirs.stderr
        assert ours.returncode == theirs.returncode == 1


def test_a_module_is_run_as_python_m_would(tmp_path):
    package = tmp_path / "package"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "train.py").write_text(
        "import json, sys\n"
        "print(json.dumps([sys.argv, sys.path[0], __name__, __spec__.name, __package__]))\n"
    )
    ours = in_a_process(tmp_path, "-m", "package.train", "--lr", "3")
    theirs = alone(tmp_path, "-m", "package.train", "--lr", "3")
    assert json.loads(ours.stdout) == json.loads(theirs.stdout)


def test_environment_that_a_script_sets_before_torch_counts(tmp_path):
    (tmp_path / "threads.py").write_text(
        "import os\nos.environ['OMP_NUM_THREADS'] = '1'\nimport torch\n"
        "print(torch.get_num_threads())\n"
    )
    result = in_a_process(tmp_path, "threads.py")
    assert result.stdout.strip() == "1"


def test_looking_for_torch_is_not_importing_it(tmp_path):
    result = in_a_process(tmp_path, "--out", "run.h5", str(SCRIPTS / "programs/looking.py"))
    assert (result.returncode, result.stdout) == (0, "found False\nfound True\n")
    assert "run.h5" in result.stderr and "nothing was recorded" not in result.stderr
    assert gradscope.open_recording(tmp_path / "run.h5")["training"].sizes["step"] == 2


def test_ctrl_c_keeps_what_was_recorded(tmp_path):
    (tmp_path / "long.py").write_text(
        "import itertools, torch\n"
        "model = torch.nn.Linear(3, 2)\n"
        "optimizer = torch.optim.SGD(model.parameters(), lr=0.1)\n"
        "for k in itertools.count():\n"
        "    model(torch.ones(4, 3)).square().mean().backward()\n"
        "    optimizer.step()\n"
        "    if k == 5: print('going', flush=True)\n"
    )
    program = [sys.executable, "-m", "gradscope", "record", "--out", "run.h5", "long.py"]
    with subprocess.Popen(
        program,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # Tests started in the background ignore Ctrl-C, and so would their children.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    ) as process:
        try:
            assert process.stdout.readline() == "going\n"
            process.send_signal(signal.SIGINT)
            _, err = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 130
    assert "KeyboardInterrupt" in err and f"gradscope{os.sep}record" not in err
    assert gradscope.open_recording(tmp_path / "run.h5").attrs["status"] == "interrupted"
