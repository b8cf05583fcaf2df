"""Data parallelism of one run over the processes that torchrun starts.

Each process computes its share of each batch. With a single process, all functions are no-ops.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn

from gradscope.errors import UsageError
from gradscope.experiments.training.environment import find_device


@dataclass(frozen=True)
class Processes:
    """The processes of a run, from the view of one of them.

    Parameters
    ----------
    rank : int
        Number of this process; 0 writes and prints.
    size : int
        How many there are.
    """

    rank: int = 0
    size: int = 1

    def share(self, n: int) -> slice:
        """Return this process's part of a batch of n examples, the same size in each.

        Raises
        ------
        UsageError
            If n is no multiple of the number of processes.
        """
        if n % self.size:
            raise UsageError(
                f"a batch of {n} cannot be shared evenly by {self.size} processes; choose a "
                f"--batch-size that is a multiple of {self.size}"
            )
        each = n // self.size
        return slice(self.rank * each, (self.rank + 1) * each)

    def sum(self, values: Tensor) -> Tensor:
        """Return the sum of all processes' values, entry by entry; the same everywhere."""
        if self.size == 1:
            return values
        total = values.clone()
        dist.all_reduce(total)
        return total

    def gather(self, values: Tensor) -> list[Tensor]:
        """Return every process's values, by rank; the same everywhere."""
        if self.size == 1:
            return [values]
        found = [torch.empty_like(values) for _ in range(self.size)]
        dist.all_gather(found, values)
        return found

    def wrap(self, model: nn.Module) -> nn.Module:
        """Return a module that trains as the model does and averages gradients over processes."""
        return model if self.size == 1 else nn.parallel.DistributedDataParallel(model)

    def spread_buffers(self, model: nn.Module) -> None:
        """Give all processes the running statistics of the first, which are the run's."""
        for buffer in model.buffers() if self.size > 1 else ():
            dist.broadcast(buffer, 0)


ALONE = Processes()


@contextlib.contextmanager
def joined(device: str) -> Iterator[Processes]:
    """Join the processes that torchrun started, for the length of a ``with`` block.

    NCCL on CUDA, one device a process; gloo on the CPU. A group that the caller made is used, and
    left, as it is: several runs in a process share one, since torchrun's store serves one group.
    Elsewhere the process is alone.

    Parameters
    ----------
    device : str
        ``auto``, ``cpu`` or ``cuda``.
    """
    if dist.is_available() and dist.is_initialized():
        yield Processes(dist.get_rank(), dist.get_world_size())
        return
    if int(os.environ.get("WORLD_SIZE", "1")) == 1 or "RANK" not in os.environ:
        yield ALONE
        return
    on_cuda = find_device(device).type == "cuda"
    if on_cuda:
        local = int(os.environ.get("LOCAL_RANK", "0"))
        torch.cuda.set_device(local % torch.cuda.device_count())
    dist.init_process_group("nccl" if on_cuda else "gloo")
    try:
        yield Processes(dist.get_rank(), dist.get_world_size())
    finally:
        dist.destroy_process_group()
