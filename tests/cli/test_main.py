"""The command line as a whole: help, versions, unknown words, closed pipes."""

from __future__ import annotations

import subprocess
import sys

import pytest

import gradscope
from gradscope.cli.main import COMMANDS, build_parser, main


def test_help_lists_every_command():
    text = build_parser().format_help()
    assert all(f"  {name}" in text for name in COMMANDS)


def test_version(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["--version"])
    assert stop.value.code == 0
    assert capsys.readouterr().out.strip() == f"gradscope {gradscope.__version__}"


def test_unknown_command_is_a_users_mistake(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["recrod"])
    assert stop.value.code == 2
    assert "record" in capsys.readouterr().err


def test_errors_are_one_line(capsys, tmp_path):
    assert main(["info", str(tmp_path / "no.h5")]) == 2
    message = capsys.readouterr().err
    assert message.startswith("gradscope info: ") and message.count("\n") == 1


def test_a_closed_pipe_is_no_error(tmp_path):
    """``gradscope COMMAND | head`` ends quietly."""
    program = (
        "import sys; from gradscope.cli import main; from gradscope.cli.files import info\n"
        "info.run = lambda arguments: print('x' * 10**6, flush=True) or 0\n"
        "sys.exit(main.main(['info', 'run.h5']))"
    )
    command = f"'{sys.executable}' -c \"$PROGRAM\" | head -c 10"
    result = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {command}"],
        env={"PROGRAM": program, "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.stdout == "x" * 10 and result.stderr == "" and result.returncode == 0
