"""The CUDA backend: run by triton's interpreter, compiled without a device, and on one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from gradscope.record.measure.choose import choose_backend
from gradscope.record.measure.reference.backend import ReferenceBackend

ROOT = Path(__file__).parents[3]
needs_triton = pytest.mark.skipif(
    sys.platform != "linux", reason="triton comes with torch on Linux only"
)

COMPILE = """
import triton.language as tl
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource, compile
from gradscope.record.measure.cuda.finish_kernel import finish_kernel
from gradscope.record.measure.cuda.gradient_kernel import gradient_kernel
from gradscope.record.measure.cuda.log2_kernel import log2_kernel
from gradscope.record.measure.cuda.moment_kernel import moment_kernel
from gradscope.record.measure.cuda.output_kernel import output_kernel
from gradscope.record.measure.cuda.update_kernel import update_kernel
f = tl.float32
tables = dict(addresses="*i64", sizes="*i64", chunks="*i32", n_tensors="i32", n_chunks="i32",
    partial="*fp64", items="*i64", below="*fp64", above="*fp64", first="*i32", rows="*i64",
    out="*fp64", row_stride="i32", y="*fp32", n="i32", sums="*fp64", ticket="*i32")
shape = dict(IS_ALIGNED=True, CHUNK=8192, TILE=1024, WIDTH=16)
jobs = [
    (gradient_kernel, dict(shape, GRAD=f, PARAM=f, COPY=f, HAS_COPY=True)),
    (update_kernel, dict(shape, BEFORE=f, AFTER=f, GRAD=f)),
    (moment_kernel, dict(shape, V=f, M=f, HAS_M=True)),
    (log2_kernel, dict(shape, KIND=f, LOW=-149, N_BINS=181, WIDTH=256)),
    (finish_kernel, dict(COLUMN=9, N=3, MAXIMA=1, ROWS=128, WIDTH=16)),
    (output_kernel, dict(TILE=1024, MAX_PROGRAMS=512, WIDTH=8)),
]
for kernel, constants in jobs:
    names = kernel.arg_names
    kinds = dict(tables, partial="*i32") if "LOW" in constants else tables
    signature = {n: "constexpr" if n in constants else kinds[n] for n in names}
    constants = {(names.index(n),): c for n, c in constants.items()}
    aligned = {(0,): [["tt.divisibility", 16]]}
    source = ASTSource(kernel, signature, constants, aligned)
    options = {"num_warps": 4, "enable_fp_fusion": True}
    ptx = compile(source, target=GPUTarget("cuda", 90, 32), options=options).asm["ptx"]
    print(ptx.count("ld.global.v4.b32"), ptx.count("st.global.v4.b32"))
"""


def run(*arguments, **environment):
    return subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
    )


OLD_TRITON = ("-W", "ignore:Conversion of an array with ndim > 0 to a scalar:DeprecationWarning")
"""What the interpreter of older releases of triton does to arrays of numpy."""


def run_cases(**environment):
    """Run the cases in a process of their own: triton reads its environment when imported."""
    folder = "tests/record/measure/cuda_cases"
    files = [f"{folder}/{name}.py" for name in ("step_sums", "counts_and_outputs", "launches")]
    arguments = ("-m", "pytest", "-q", "-n", "0", "-p", "no:cacheprovider", *OLD_TRITON, *files)
    result = run(*arguments, **environment)
    assert result.returncode == 0, result.stdout[-6000:] + result.stderr[-2000:]


@needs_triton
@pytest.mark.slow
def test_kernels_equal_the_reference_in_the_interpreter():
    run_cases(TRITON_INTERPRET="1", OMP_NUM_THREADS="1")


@needs_triton
def test_kernels_compile_to_vector_loads_and_stores():
    result = run("-W", "ignore", "-c", COMPILE)
    assert result.returncode == 0, result.stderr[-2000:]
    # A tile of 1024 entries is 8 a thread: two accesses of four for each array that is read or
    # written. Gradient and parameter, and the copy; before, after, gradient; both moments.
    lines = result.stdout.splitlines()
    assert lines == ["4 2", "6 0", "4 0", "2 0", "0 0", "2 0"]


def test_without_triton_the_reference_is_chosen(monkeypatch):
    monkeypatch.setitem(sys.modules, "gradscope.record.measure.cuda.backend", None)
    with pytest.warns(RuntimeWarning, match="no compiled measurement for cuda tensors"):
        assert type(choose_backend(torch.device("cuda"))) is ReferenceBackend


@needs_triton
def test_where_the_kernels_fail_the_reference_is_chosen(monkeypatch):
    def probe(self):
        raise RuntimeError("Failed to find C compiler")

    monkeypatch.setattr(
        "gradscope.record.measure.cuda.backend.CudaBackend.__init__", lambda self, device: None
    )
    monkeypatch.setattr("gradscope.record.measure.cuda.backend.CudaBackend.probe", probe)
    with pytest.warns(RuntimeWarning, match="Failed to find C compiler"):
        assert type(choose_backend(torch.device("cuda"))) is ReferenceBackend


@pytest.mark.gpu
def test_kernels_equal_the_reference_on_a_device():
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    run_cases()


@pytest.mark.gpu
def test_a_device_gets_the_kernels():
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    assert type(choose_backend(torch.device("cuda"))).__name__ == "CudaBackend"
