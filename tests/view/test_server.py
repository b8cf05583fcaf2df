"""Starting and ending the live page."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import urllib.request

import pytest

pytest.importorskip("uvicorn")
import gradscope.integrations.xarray  # noqa: F401 - registers the accessor
from gradscope.cli.main import main
from gradscope.errors import UsageError
from gradscope.store.read.recording import open_recording
from gradscope.view.server import find_folder
from tests.helpers import synthetic_recording


def test_one_line_with_the_address_and_a_quiet_end(runs):
    command = [sys.executable, "-m", "gradscope.cli.main", "view", str(runs), "--port", "0"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        line = process.stdout.readline()
        url = line.split()[2]
        assert urllib.request.urlopen(url).status == 200
        listener = urllib.request.urlopen(url + "api/events")  # open streams do not hold it up
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=15)
        listener.close()
    assert (out, err, process.returncode) == ("", "", 0)
    assert url.startswith("http://127.0.0.1:")


def test_a_busy_port_is_one_clear_line(runs, capsys):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        assert main(["view", str(runs), "--port", port]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and f"port {port} is in use" in err


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--token", ""], "the token is empty"),
        (["--host", "0.0.0.0", "--token", " "], "the token is empty"),
        (["--allow-host", ""], "the name of a host"),
        (["--root-path", "x y"], "such as /user/me/proxy"),
        (["--host", "\0"], "cannot listen on"),
        (["--host", "256.1.1.1"], "cannot listen on '256.1.1.1' port 6116: "),
        (["--port", "99999"], "port 99999"),
    ],
)
def test_addresses_that_make_no_sense_are_one_line(tmp_path, capsys, options, words):
    assert main(["view", str(tmp_path), *options]) == 2
    err = capsys.readouterr().err
    assert words in err and err.count("\n") == 1 and "Errno" not in err


def test_what_is_not_there_is_said(tmp_path, capsys):
    assert main(["view", str(tmp_path / "nowhere")]) == 2
    assert "there is no folder and no recording" in capsys.readouterr().err


def test_recordings_may_be_named(runs):
    folder, only = find_folder([runs / "sweep" / "run0.h5", runs / "broken.h5"])
    assert folder == runs.resolve()
    assert {path.name for path in only} == {"run0.h5", "broken.h5"}


def test_a_tree_shows_itself_in_a_notebook(runs):
    with open_recording(runs / "sweep" / "run0.h5") as tree:
        page = tree.gradscope.explore(height=400)
    try:
        assert urllib.request.urlopen(page.url).status == 200
        assert f'<iframe src="{page.url}"' in page._repr_html_()
    finally:
        page.close()
    assert not page.thread.is_alive()  # one that reads a file would let the process hang at its end
    with pytest.raises(UsageError, match="on disk"):
        synthetic_recording(10, 3).gradscope.explore()
