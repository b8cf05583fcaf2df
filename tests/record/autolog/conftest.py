"""The fixture that records a script inside the test process."""

from __future__ import annotations

import sys

import pytest
import torch

import gradscope
from gradscope.cli import main as cli
from tests.record.autolog.running import SCRIPTS


@pytest.fixture
def record(tmp_path, monkeypatch, capfd):
    """Record a script inside this process; returns exit code, what was printed, and the trees."""
    monkeypatch.chdir(tmp_path)

    def run(script, *arguments, options=()):
        before = torch.autograd.backward, torch.optim.Optimizer.__init__, sys.argv, sys.path[:]
        words = [*options, "--out", "run.h5", str(SCRIPTS / script), *arguments]
        code = cli.main(["record", *words])
        out, err = capfd.readouterr()
        after = torch.autograd.backward, torch.optim.Optimizer.__init__, sys.argv, sys.path[:]
        assert after == before
        trees = [gradscope.open_recording(p).load() for p in sorted(tmp_path.glob("run*.h5"))]
        return code, out, err, trees

    return run
