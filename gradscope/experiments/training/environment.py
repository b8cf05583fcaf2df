"""Device, random state and global settings of torch, set for one run and restored after it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

import torch

from gradscope.errors import UsageError


def find_device(name: str) -> torch.device:
    """Return the device of a name; ``auto`` takes CUDA where there is one.

    Raises
    ------
    UsageError
        If CUDA was asked for and there is none.
    """
    if name == "cuda" and not torch.cuda.is_available():
        raise UsageError("`device` is cuda, but torch sees no CUDA device; use cpu or auto")
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)


@contextlib.contextmanager
def numerics(*, seed: int, deterministic: bool) -> Iterator[None]:
    """Seed torch and choose its algorithms inside a ``with`` block.

    Parameters
    ----------
    seed : int
        Of torch's generators on all devices, for weights and dropout.
    deterministic : bool
        Only algorithms that repeat bit for bit, with a warning where torch has none; otherwise
        the fastest.
    """
    cudnn = torch.backends.cudnn
    before = cudnn.benchmark, cudnn.deterministic
    was_deterministic = torch.are_deterministic_algorithms_enabled()
    was_warning = torch.is_deterministic_algorithms_warn_only_enabled()
    if deterministic:
        # Read by cuBLAS when it starts, hence set before the first CUDA call.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(deterministic, warn_only=True)
    cudnn.benchmark, cudnn.deterministic = not deterministic, deterministic
    torch.manual_seed(seed)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(was_deterministic, warn_only=was_warning)
        cudnn.benchmark, cudnn.deterministic = before
