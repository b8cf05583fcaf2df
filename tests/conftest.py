"""What every test begins with."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

if "PYTEST_XDIST_WORKER" in os.environ:  # torch's threads of several processes would only wait
    os.environ.setdefault("OMP_NUM_THREADS", "1")
COMPILE = "import gradscope.record.measure.cpu.kernels"


def pytest_configure(config):
    """Compile the kernels once, in a process of its own, so that all others load the same code.

    The process that compiles them sums in another order than those that load them afterwards, which
    shows in the last bits of float32; some tests compare processes bit for bit.
    """
    if not hasattr(config, "workerinput"):
        subprocess.run([sys.executable, "-c", COMPILE], cwd=config.rootpath, check=False)


@pytest.fixture(autouse=True)
def _denormals():
    """Undo the flushing of denormals that code compiled with -ffast-math turns on when it loads.

    Inductor's C++ does; numbers computed here would then differ from those of a fresh process.
    """
    if "torch" in sys.modules:
        sys.modules["torch"].set_flush_denormal(False)
