"""Choice of the backend: the fastest that a device and its compiler allow."""

from __future__ import annotations

import functools

import torch

from gradscope.errors import warn
from gradscope.record.measure.reference.backend import Backend, ReferenceBackend


def choose_backend(device: torch.device) -> Backend:
    """Return the fastest backend for a device.

    Where its kernels cannot be compiled (no numba or triton, no C compiler, an old GPU), a warning
    says so, once for each kind of device, and the reference is returned.
    """
    try:
        if device.type == "cpu":
            return _compiled_backend()
        if device.type == "cuda":
            return _cuda_backend(device)
    except Exception as error:  # whatever keeps kernels from compiling must not stop a training
        _warn_of_reference(device.type, f"{type(error).__name__}: {error}")
    return ReferenceBackend()


def _compiled_backend() -> Backend:
    from gradscope.record.measure.cpu.backend import CompiledBackend

    backend = CompiledBackend()
    backend.probe()
    return backend


def _cuda_backend(device: torch.device) -> Backend:
    from gradscope.record.measure.cuda.backend import CudaBackend

    backend = CudaBackend(device)
    backend.probe()
    return backend


@functools.cache
def _warn_of_reference(kind: str, reason: str) -> None:
    warn(
        f"no compiled measurement for {kind} tensors; recording works, more slowly, through "
        f"PyTorch's own operations. The reason: {reason}",
        stacklevel=4,
    )
