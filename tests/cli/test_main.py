"""The command line as a whole: help, versions, unknown words, closed pipes."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

import gradscope
from gradscope.cli.main import COMMANDS, build_parser, main, one_line, open_streams
from tests.helpers import write_recording

ROOT = Path(__file__).parents[2]


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


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["record", "--alhpa", "0.5"], "gradscope record: unknown option '--alhpa'; did you mean"),
        (["plot", "run.h5", "--quantitty=x"], "did you mean --quantity?"),
        (["plot", "run.h5", "--nonsense"], "see gradscope help plot"),
        (["info", "a.h5", "b.h5"], "'b.h5' is one argument too many; see gradscope help info"),
        (["plot", "run.h5", "--step-axis", "x"], "invalid choice: 'x' (choose from"),
        (["view", "--port", "x"], "gradscope view: argument --port: invalid int value: 'x'; see"),
        (["export", "run.h5"], "are required: --to; see gradscope help export"),
        (["sweep", "x.toml", "--print", "--json"], "not allowed with argument"),
        ([], "the following arguments are required: COMMAND; see gradscope help"),
        (["plto"], "gradscope: unknown command 'plto'; did you mean 'plot'?"),
    ],
)
def test_what_is_unknown_names_what_was_meant(capsys, words, said):
    with pytest.raises(SystemExit) as stop:
        main(words)
    err = capsys.readouterr().err
    assert stop.value.code == 2 and err.count("\n") == 1 and said in err


@pytest.mark.parametrize("command", ["plot", "report", "compare"])
@pytest.mark.parametrize("out", ["/proc/x{}", "a\0{}", "{}", "run.h5/x{}", "x" * 300 + "{}"])
def test_an_output_that_cannot_be_written_is_one_line_before_any_work(
    tmp_path, monkeypatch, capsys, command, out
):
    monkeypatch.chdir(tmp_path)
    write_recording(tmp_path / "run.h5", 5, 2)
    name = out.format(".html" if command == "report" else ".png")
    words = ["run.h5", "run.h5"][: 2 if command == "compare" else 1]
    assert main([command, *words, "-o", name]) == 2
    err = capsys.readouterr().err
    assert err.startswith(f"gradscope {command}: ") and err.count("\n") == 1
    assert "Errno" not in err and len(err) < 500
    assert any(text in err for text in ("cannot write", "cannot make", "takes a name that ends"))
    assert [path.name for path in tmp_path.iterdir()] == ["run.h5"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["record", "--config", ""], "is no path; name a .toml file or a recording"),
        (["record", "--config", "."], "is a folder; name a .toml file or a recording"),
        (["sweep", "--scheduler", "", "x.toml"], "takes tcp://HOST:PORT"),
        (["compare", "--relative-depth", "99999999999", "a.h5", "b.h5"], "takes 2 to 1,000 points"),
        (["plot", "--alphas", "nan", "a.h5"], "takes numbers between commas"),
        (["record", "--resume", ""], "is no path"),
        (["record", "-m"], "-m takes the name of a module"),
        (["record", "empty"], "empty is a folder without __main__.py; name a script"),
        (["sweep", ""], "is no path; name a .toml file"),
        (["view", ""], "is no path; name a folder or a recording"),
        (["view", "--host", ""], "the host is empty"),
        (["ls", ""], "is no path; name a folder"),
    ],
)
def test_empty_words_are_said_to_be_empty(tmp_path, monkeypatch, capsys, words, said):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    assert main(words) == 2
    err = capsys.readouterr().err
    assert said in err and err.count("\n") == 1


def test_an_empty_tag_is_refused_before_any_work(capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["record", "--tag", ""])
    assert "a tag is a word without commas; got ''" in capsys.readouterr().err


def test_help_explains_a_command(capsys):
    assert main(["help", "plot"]) == 0
    assert "--quantity NAME" in capsys.readouterr().out
    assert main(["help"]) == 0
    assert all(name in capsys.readouterr().out for name in ("record",))


@pytest.mark.parametrize("command", [c for c in COMMANDS if c not in ("record", "sweep", "view")])
@pytest.mark.parametrize(
    "argument", ["", ".", "/", "no\udcffname.h5", "no\ud800text.h5", "x" * 300, "[.h5"]
)
def test_odd_names_are_one_line_and_no_traceback(tmp_path, monkeypatch, capsys, command, argument):
    monkeypatch.chdir(tmp_path)
    if command == "tail" and argument not in ("", ".", "/"):
        return  # waits for a run of that name
    options = {"export": ["--to", "csv"], "ls": ["--json"]}.get(command, [])
    if (command, argument) in (("ls", "."), ("ls", "/"), ("import", "/")):
        return  # folders are what they take
    assert main([command, argument, *options]) == 2
    err = capsys.readouterr().err
    assert err.startswith(f"gradscope {command}: ") and err.count("\n") == 1


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_names_that_no_encoding_holds_are_printed_all_the_same(tmp_path, encoding):
    write_recording(tmp_path / "ä→.h5", 5, 2)
    result = subprocess.run(
        [sys.executable, "-m", "gradscope.cli.main", "info", "ä→.h5"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONIOENCODING": encoding, "PYTHONPATH": str(ROOT)},
        capture_output=True,
    )
    assert result.returncode == 0 and b"Traceback" not in result.stderr
    assert b"parameters in" in result.stdout


def test_completion_offers_commands_and_options():
    pytest.importorskip("argcomplete")
    words = "import sys; from gradscope.cli.main import main; main([])"
    for line, expected in (("gradscope pl", "plot"), ("gradscope plot --quan", "--quantity")):
        env = {**os.environ, "_ARGCOMPLETE": "1", "COMP_LINE": line, "COMP_POINT": str(len(line))}
        env |= {"_ARGCOMPLETE_IFS": "\n", "_ARGCOMPLETE_STDOUT_FILENAME": os.devnull}
        program = f"import os; os.environ['_ARGCOMPLETE_STDOUT_FILENAME'] = sys.argv[1]; {words}"
        with tempfile.NamedTemporaryFile() as out:
            command = [sys.executable, "-c", f"import sys; {program}", out.name]
            subprocess.run(command, env=env, cwd=ROOT, check=True)
            assert expected in Path(out.name).read_text().split()


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        (["--verson"], "unknown option '--verson'; did you mean --version?"),
        (["-x"], "unknown option '-x'; see gradscope help"),
        (["help", "recrod"], "unknown command 'recrod'; did you mean 'record'?"),
    ],
)
def test_what_was_meant_is_said_before_a_command_too(words, meant, capsys):
    with pytest.raises(SystemExit) as stop:
        main(words)
    assert stop.value.code == 2 and meant in capsys.readouterr().err


def test_closed_streams_are_no_error(monkeypatch):
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "stderr", None)
    open_streams()
    assert not sys.stdout.isatty() and sys.stdout.write("lost") == 4
    sys.stdout.close()
    sys.stderr.close()


def test_an_error_of_the_system_has_no_number():
    assert one_line(OSError(28, "No space left on device")) == "no space left on device"
