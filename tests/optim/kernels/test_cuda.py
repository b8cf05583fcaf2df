"""The CUDA kernel: run by triton's interpreter, compiled without a device, and on one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from gradscope.optim.kernels.power import split_alpha
from gradscope.optim.smes import SMES

pytest.importorskip("triton", reason="the CUDA kernel needs triton")
ROOT = Path(__file__).parents[3]

COMPILE = """
import triton.language as tl
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource, compile
from gradscope.optim.kernels.cuda import smes_kernel
constants = dict(LOG_BETA1=-0.1, LOG_BETA2=-0.001, PARAM=tl.float32, GRAD=tl.float32,
    IS_DECOUPLED=False, HAS_CORRECTION=True, IS_MAXIMIZING=False, HAS_SCALE=True, HAS_FOUND=True,
    IS_ALIGNED=True, IS_LR_POINTER=False, BLOCK=4096)
kinds = dict(addresses="*i64", sizes="*i64", tensor_of="*i32", block_of="*i32", n_tensors="i32",
    grad_scale="*fp32", found_inf="*fp32")
names = smes_kernel.arg_names
signature = {n: "constexpr" if n in constants else kinds.get(n, "fp32") for n in names}
source = ASTSource(smes_kernel, signature, {(names.index(n),): c for n, c in constants.items()})
print(compile(source, target=GPUTarget("cuda", 90, 32), options={"num_warps": 8}).asm["ptx"])
"""


def run(*arguments, **environment):
    return subprocess.run(
        [sys.executable, "-W", "ignore", *arguments],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
    )


def test_kernel_equals_the_formula_in_the_interpreter():
    result = run("tests/optim/kernels/interpreted_kernel.py", TRITON_INTERPRET="1")
    assert result.stdout == "equal\n", result.stderr[-2000:]


def test_kernel_compiles_to_vector_loads_and_stores():
    pytest.importorskip("triton", minversion="3.3", reason="ASTSource as of triton 3.3")
    result = run("-c", COMPILE)
    assert result.returncode == 0, result.stderr[-2000:]
    # 4096 entries, 256 threads, 4 entries an access, 4 arrays read; written: those and the
    # unscaled gradient.
    assert result.stdout.count("ld.global.v4.b32") == 16
    assert result.stdout.count("st.global.v4.b32") == 16


@pytest.mark.parametrize("alpha", [-1.0, -0.3, -0.2, 0.1, 0.9, 1.0])
def test_split_alpha_is_exact(alpha):
    high, low = split_alpha(alpha)
    assert high + low == alpha
    assert abs(low) <= abs(alpha) / 4096
    assert float(torch.tensor(high) * 149) == high * 149


@pytest.mark.gpu
@pytest.mark.parametrize("alpha", [-0.3, 0.0, 0.1, 0.5])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_one_step_on_a_device(alpha, dtype):
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    steps = []
    for options in ({"foreach": False, "fused": False}, {"foreach": True}, {"fused": True}, {}):
        torch.manual_seed(0)
        params = [torch.nn.Parameter(torch.randn(n, device="cuda").to(dtype)) for n in (7, 10000)]
        optimizer = SMES(params, lr=0.01, alpha=alpha, weight_decay=0.1, **options)
        for p in params:
            p.grad = torch.randn_like(p)
        optimizer.step()
        steps.append(params)
    tolerance = 1e-6 if dtype == torch.float32 else 2**-7
    for params in steps[1:]:
        torch.testing.assert_close(params, steps[0], rtol=tolerance, atol=tolerance)


@pytest.mark.gpu
def test_a_captured_graph_replays_the_steps():
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    p, twin = (torch.nn.Parameter(torch.ones(64, device="cuda")) for _ in range(2))
    p.grad = twin.grad = torch.linspace(-1, 1, 64, device="cuda")
    captured = SMES([p], alpha=-0.2, capturable=True)
    eager = SMES([twin], alpha=-0.2, foreach=False, fused=False)
    side = torch.cuda.Stream()
    with torch.cuda.stream(side):
        captured.step()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured.step()
    for _ in range(3):
        graph.replay()
    for _ in range(4):
        eager.step()
    torch.testing.assert_close(p, twin, rtol=1e-5, atol=1e-6)
