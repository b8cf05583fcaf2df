"""What every test begins with."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

if "PYTEST_XDIST_WORKER" in os.environ:  # torch's threads of several processes would only wait
    os.environ.setdefault("OMP_NUM_THREADS", "1")
# Without bytecode each of the processes that tests start would compile torch's modules again.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False
COMPILE = """
from gradscope.record.measure.cpu.backend import CompiledBackend
CompiledBackend().probe()
"""


def pytest_configure(config):
    """Compile the kernels once, before several workers would each do it."""
    if not hasattr(config, "workerinput"):
        subprocess.run([sys.executable, "-c", COMPILE], cwd=config.rootpath, check=False)


@pytest.fixture(autouse=True)
def _denormals():
    """Undo the flushing of denormals that code compiled with -ffast-math turns on when it loads.

    Inductor's C++ does; numbers computed here would then differ from those of a fresh process.
    """
    if "torch" in sys.modules:
        sys.modules["torch"].set_flush_denormal(False)
