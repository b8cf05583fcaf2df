"""What every test begins with."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
from collections import Counter

import hypothesis  # noqa: F401  its plugins are set up before anything is frozen
import pytest

if "PYTEST_XDIST_WORKER" in os.environ:  # torch's threads of several processes would only wait
    os.environ.setdefault("OMP_NUM_THREADS", "1")
# Without bytecode each of the processes that tests start would compile torch's modules again.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False
# Inductor: no pool of processes for a few small graphs, and no program that tries each vector unit.
os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "1")
os.environ.setdefault("TORCHINDUCTOR_VEC_ISA_OK", "1")
COMPILE = """
from gradscope.record.measure.cpu.backend import CompiledBackend
CompiledBackend().probe()
"""
_compiling = pytest.StashKey[subprocess.Popen]()


def pytest_configure(config):
    """Compile the kernels once, before several workers would each do it."""
    if not hasattr(config, "workerinput"):
        program = [sys.executable, "-c", COMPILE]
        config.stash[_compiling] = subprocess.Popen(program, cwd=config.rootpath)


def pytest_collection_finish(session):
    """What was imported until here stays: each garbage collection of a test need not walk it."""
    gc.collect()
    gc.freeze()
    _await_kernels(session.config)


def pytest_sessionfinish():
    gc.unfreeze()  # else extension modules tell of leaks at the end


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_node_collection_finished(node):
    _await_kernels(node.config)


def _await_kernels(config):
    """The workers collect meanwhile; no test begins before."""
    if _compiling in config.stash:
        config.stash[_compiling].wait()


def pytest_collection_modifyitems(items):
    """Give the workers the files that hold slow tests first: the last of all should be short."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        n_slow = Counter(item.path for item in items if item.get_closest_marker("slow"))
        n_tests = Counter(item.path for item in items)
        items.sort(key=lambda item: (-n_slow[item.path], -n_tests[item.path], item.path))


@pytest.fixture(autouse=True)
def _denormals():
    """Undo the flushing of denormals that code compiled with -ffast-math turns on when it loads.

    Inductor's C++ does; numbers computed here would then differ from those of a fresh process.
    """
    if "torch" in sys.modules:
        sys.modules["torch"].set_flush_denormal(False)
