"""Jobs of kernels: which tensors, cut into parts that threads take one after the other.

A job covers many tensors in one call, given as a table of addresses, and leaves Python out of it.
The concatenation of all tensors is cut into parts. Every thread that calls the kernel takes the
next part until there is none. A part has sums of its own, and the cuts depend on the number of
entries alone: results depend neither on the number of threads nor on which of them took a part.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numba import types
from numba.extending import intrinsic
from numba.np.numpy_support import carray
from numpy.typing import NDArray

from gradscope.native.bits import float64_at, int64_at, pointer_to
from gradscope.native.compiler import Address, Array, Int64, Kernel, jit
from gradscope.native.threads import Threads

JOB = np.dtype(
    [
        ("next", np.int64),  # number of the part that is taken next
        ("n_parts", np.int64),
        ("n_entries", np.int64),  # of all tensors
        ("n_tensors", np.int64),
        ("table", np.int64),  # address of int64 (tensor, width): addresses of what belongs together
        ("numel", np.int64),  # address of int64 (tensor,)
        ("out", np.int64),  # address of float64 (part, tensor, n_sums)
        ("n_sums", np.int64),
        ("extra", np.int64),  # address of what the kernel needs besides; 0: nothing
    ]
)
BLOCK = 512
"""Entries that stay in the first-level cache: parts are cut at multiples of it."""
PART = 65_536
"""Entries that are worth waking a thread for."""
MOST_PARTS = 32
"""More parts than threads, so that none waits long for the last."""


def n_parts(n_entries: int) -> int:
    """Return into how many parts a job of this many entries is cut."""
    return min(max(n_entries // PART, 1), MOST_PARTS)


def run_job(
    kernel: Kernel,
    threads: Threads,
    table: NDArray[np.int64],
    numel: NDArray[np.int64],
    *,
    n_sums: int = 0,
    extra: int = 0,
) -> NDArray[np.float64]:
    """Run a kernel over all tensors on as many threads as torch uses.

    Parameters
    ----------
    kernel : Kernel
    threads : Threads
    table : array, int64, (tensor, width)
        Addresses of the tensors that belong together.
    numel : array, int64, (tensor,)
        Entries of each.
    n_sums : int
        Sums that the kernel makes of each tensor.
    extra : int
        Address of what the kernel needs besides, kept alive by the caller.

    Returns
    -------
    array, float64, (part, tensor, n_sums)
        Sums of each part; 0 where a part does not touch a tensor.
    """
    n = int(numel.sum())
    parts = n_parts(n)
    out = np.zeros((parts, len(numel), n_sums))
    addresses = [array.ctypes.data for array in (table, numel, out)]
    job = np.array([(0, parts, n, len(numel), *addresses, n_sums, extra)], dtype=JOB)
    threads.run(kernel, job.ctypes.data, min(parts, torch.get_num_threads()))
    return out


def combine_parts(parts: NDArray[np.float64], maxima: Sequence[int] = ()) -> NDArray[np.float64]:
    """Add what the parts summed; some columns combine by maximum."""
    combined: NDArray[np.float64] = parts[0] if len(parts) == 1 else parts.sum(axis=0)
    if len(parts) > 1:
        combined[:, maxima] = parts[:, :, maxima].max(axis=0)
    return combined


def _add_one(_context: Any, address: Any) -> Any:
    """Add 1 to the int64 at an address, one thread at a time; return what it was."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        word = context.get_value_type(types.int64)
        pointer = builder.inttoptr(args[0], word.as_pointer())
        return builder.atomic_rmw("add", pointer, word(1), "acq_rel")

    return types.int64(types.int64), codegen


_take_next: Any = intrinsic(_add_one)  # of a job's address: `next` is its first field
_job_at = pointer_to(JOB)


@jit
def job_of(data: Address) -> Array:
    """Return the job at an address, a record of `JOB`'s fields."""
    return carray(_job_at(data), 1)[0]


@jit
def next_part(data: Address, width: int) -> tuple[Array, Array, Int64, Int64, Array]:
    """Take the next part of a job.

    Returns
    -------
    table : array, int64, (tensor, width)
        Addresses of tensors that belong together.
    numel : array, int64, (tensor,)
    first, last : int
        Range over the concatenation of all tensors; empty when no part is left.
    out : array, float64, (tensor, n_sums)
        Of this part alone: to be added to, maxima by maximum.
    """
    job = job_of(data)
    parts, n, n_tensors, n_sums = job.n_parts, job.n_entries, job.n_tensors, job.n_sums
    part = min(_take_next(data), parts)
    first = n * part // parts // BLOCK * BLOCK if part < parts else n
    last = n * (part + 1) // parts // BLOCK * BLOCK if part + 1 < parts else n
    table = carray(int64_at(job.table), (n_tensors, width))
    numel = carray(int64_at(job.numel), n_tensors)
    own = job.out + 8 * min(part, parts - 1) * n_tensors * n_sums
    return table, numel, first, last, carray(float64_at(own), (n_tensors, n_sums))


@jit
def blocks(
    numel: Array, first: Int64, last: Int64, size: int = BLOCK
) -> Iterator[tuple[Int64, Int64, Int64]]:
    """Cut a range over concatenated tensors into (tensor, start, stop) of one block at most."""
    offset = 0
    for item in range(numel.shape[0]):
        start = max(first - offset, 0)
        end = min(last - offset, numel[item])
        while start < end:
            stop = min(start + size, end)
            yield item, start, stop
            start = stop
        offset += numel[item]
