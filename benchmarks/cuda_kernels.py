"""Time of each CUDA kernel of the recorder, relative to the memory-bandwidth floor.

Part of `benchmarks.cuda_recorder`, which prints the table.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from gradscope.experiments.models.vgg import CHANNELS, VGG
from gradscope.record.measure.choose import choose_backend
from gradscope.record.measure.reference.backend import ReferenceBackend
from gradscope.record.measure.reference.sums import GRAD_LOG2_COUNTS, PARAM_SUMS
from gradscope.record.model.modules import first_tensor
from gradscope.schema import GRAD_BIN_RANGE


@dataclass
class Training:
    """A net in training; ``step()`` is one step, recorded or not."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    step: Callable[[], object]


def make_training(device: str, batch: int) -> Training:
    """Build VGG13 with batch norm on fixed random images, fused Adam, bfloat16 autocast."""
    torch.manual_seed(0)
    model = VGG(CHANNELS["vgg13"], 10).to(device).train()
    x = torch.randn(batch, 3, 32, 32, device=device)
    y = torch.randint(0, 10, (batch,), device=device)
    is_cuda = device == "cuda"
    optimizer = torch.optim.Adam(model.parameters(), fused=True, capturable=is_cuda)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(device, torch.bfloat16, cache_enabled=False):
            loss = nn.functional.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()

    return Training(model, optimizer, step)


def capture(step: Callable[[], object]) -> torch.cuda.CUDAGraph:
    """Warm up on a side stream and capture."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(5):
            step()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    return graph


def bandwidth() -> float:
    """Bytes a second of a copy of 1 GiB, read and written."""
    a = torch.empty(2**28, device="cuda")
    b = torch.empty_like(a)
    return 2 * a.nbytes / time_graph(lambda: b.copy_(a))


def time_graph(work: Callable[[], object], n: int = 50) -> float:
    """Median seconds of one replay, by events of the device."""
    graph = capture(work)
    marks = [torch.cuda.Event(enable_timing=True) for _ in range(n + 1)]
    for mark in marks[:-1]:
        mark.record()
        graph.replay()
    marks[-1].record()
    torch.cuda.synchronize()
    times = [a.elapsed_time(b) for a, b in itertools.pairwise(marks)]
    return float(np.median(times)) / 1e3


def outputs_of(training: Training) -> list[Tensor]:
    """Outputs of all modules without children in one step, cloned."""
    found: list[Tensor] = []

    def keep(module: nn.Module, args: tuple, output: object) -> None:
        tensor = first_tensor(output)
        if tensor is not None:
            found.append(tensor.detach().clone())

    leaves = [m for m in training.model.modules() if next(m.children(), None) is None]
    handles = [m.register_forward_hook(keep) for m in leaves]
    training.step()
    for handle in handles:
        handle.remove()
    return found


def kernels(batch: int) -> dict[str, tuple[int, Callable[[], object]]]:
    """Name -> bytes that must move, and the work."""
    training = make_training("cuda", batch)
    outputs = outputs_of(training)
    params = [p.detach() for p in training.model.parameters()]
    grads = [p.grad for p in training.model.parameters() if p.grad is not None]
    v, m = (
        [training.optimizer.state[p][k] for p in training.model.parameters()]
        for k in ("exp_avg_sq", "exp_avg")
    )
    copies = [p.clone() for p in params]
    n, rows = len(params), list(range(len(params)))
    out, counts, sums = (
        torch.zeros(shape, dtype=torch.float64, device="cuda")
        for shape in ((n, len(PARAM_SUMS)), (n, GRAD_LOG2_COUNTS.stop), (len(outputs), 6))
    )
    below = torch.full((n,), 1e-16, dtype=torch.float64, device="cuda")
    backend = choose_backend(torch.device("cuda"))
    if type(backend) is ReferenceBackend:
        raise SystemExit("triton is missing or cannot compile here: there are no kernels to time")
    size = sum(p.nbytes for p in params)

    def measure_outputs() -> None:
        for y, row in zip(outputs, sums, strict=True):
            backend.add_output(y, row)

    return {
        "gradients and copy": (
            3 * size,
            lambda: backend.gradients(out, rows, grads, params, copies),
        ),
        "updates": (3 * size, lambda: backend.updates(out, rows, copies, params, grads)),
        "moments": (2 * size, lambda: backend.moments(out, rows, v, m, below, below * torch.inf)),
        "log2 counts": (size, lambda: backend.log2_counts(counts, rows, grads, GRAD_BIN_RANGE)),
        "outputs": (sum(y.nbytes for y in outputs), measure_outputs),
    }


def kernel_table(batch: int) -> tuple[list[str], dict[str, dict[str, float]]]:
    """Rows of kernel times and multiples of the byte floor, and the same as numbers."""
    speed = bandwidth()
    lines = [
        f"\nBandwidth of a copy: {speed / 1e12:.2f} TB/s.\n",
        "| kernel | MB | ms | times the byte floor |",
        "|---|---:|---:|---:|",
    ]
    numbers = {"bandwidth": {"bytes_per_second": speed}}
    for name, (nbytes, work) in kernels(batch).items():
        seconds = time_graph(work)
        multiple = seconds * speed / nbytes
        lines.append(f"| {name} | {nbytes / 1e6:.1f} | {1e3 * seconds:.4f} | {multiple:.2f} |")
        numbers[name] = {"bytes": nbytes, "seconds": seconds, "floors": multiple}
    return lines, numbers
