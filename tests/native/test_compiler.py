"""What is cached, and what happens where nothing can be."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

INNER = """
from gradscope.native.compiler import jit
@jit
def value():
    return 1.0
"""
OUTER = """
import ctypes
import numpy as np
from gradscope.native.bits import float64_at
from gradscope.native.compiler import Kernel
from kernels.inner import value
@Kernel
def write(data):
    float64_at(data)[0] = value()
out = np.zeros(1)
ctypes.CFUNCTYPE(None, ctypes.c_void_p)(write.address)(out.ctypes.data)
print(out[0])
"""


@pytest.fixture
def package(tmp_path):
    folder = tmp_path / "kernels"
    folder.mkdir()
    (folder / "__init__.py").touch()
    (folder / "inner.py").write_text(INNER)
    (folder / "outer.py").write_text(OUTER)
    return folder


def run(package, *, cache="cache", options=()):
    return subprocess.run(
        [sys.executable, *options, "-c", "import kernels.outer"],
        capture_output=True,
        text=True,
        check=True,
        cwd=package.parent,
        env={**os.environ, "PYTHONPATH": f"{ROOT}:{package.parent}", "NUMBA_CACHE_DIR": cache},
    )


def cached(package):
    return sorted(p.name for p in (package.parent / "cache").rglob("*.nbc"))


def test_an_edit_in_an_inlined_file_is_seen(package):
    assert run(package).stdout == "1.0\n"
    first = cached(package)
    assert run(package).stdout == "1.0\n"
    assert cached(package) == first and len(first) == 1
    (package / "inner.py").write_text(INNER.replace("1.0", "2.0"))
    assert run(package).stdout == "2.0\n"
    assert len(cached(package)) == 2


def test_a_damaged_cache_is_no_obstacle(package):
    run(package)
    for file in (package.parent / "cache").rglob("*.nb*"):
        file.write_bytes(b"damaged")
    result = run(package)
    assert result.stdout == "1.0\n"
    assert result.stderr.count("cannot be cached on disk") == 1


MEASURE = """
import torch
from gradscope.record.measure.choose import choose_backend
backend, out = choose_backend(torch.device("cpu")), torch.zeros(6).double()
backend.add_output(torch.tensor([1.0, 2.0]), out)
print(type(backend).__name__, out.tolist())
from gradscope.native.sums import gradients, moments, outputs, updates
for module in (gradients, moments, outputs, updates):
    for function in vars(module).values():
        if hasattr(function, "signatures") and function.__module__ == module.__name__:
            print(function.__name__, len(function.signatures))
"""


@pytest.mark.slow
def test_a_read_only_installation_and_no_home(tmp_path):
    site = tmp_path / "site"
    unwanted = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "gradscope", site / "gradscope", ignore=unwanted)
    for folder in [p for p in site.rglob("*") if p.is_dir()]:
        (folder / "__pycache__").touch()  # a file: no folder can be made there, even by root
    (tmp_path / "home").touch()
    environment = {k: v for k, v in os.environ.items() if k not in ("XDG_CACHE_HOME", "HOME")}
    environment |= {"PYTHONPATH": str(site), "HOME": str(tmp_path / "home")}
    result = subprocess.run(
        [sys.executable, "-c", MEASURE],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
        env=environment,
    )
    first, *compiled = result.stdout.splitlines()
    assert first == "CompiledBackend [3.0, 5.0, 2.0, 0.0, 0.0, 2.0]"
    assert len(compiled) > 8 and all(line.endswith(" 1") for line in compiled)  # each once
    assert result.stderr.count("RuntimeWarning") == 1
    assert "compiled CPU kernels cannot be cached on disk" in result.stderr


def test_time_stands_still_while_kernels_are_compiled():
    from gradscope.native import compile_time

    began = compile_time.working_seconds()
    with compile_time.measured():
        time.sleep(0.2)
    assert compile_time.working_seconds() - began < 0.1
