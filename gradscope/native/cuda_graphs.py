"""Whether a CUDA graph is being captured: then nothing is computed yet."""

from __future__ import annotations

import torch


def is_capturing() -> bool:
    """Whether the work of this thread is being captured into a CUDA graph and not done.

    Asked several times in each step, so the driver is not: ``torch.cuda.is_available()`` opens
    NVML's library anew at each call where a framework has set ``PYTORCH_NVML_BASED_CUDA_CHECK``.
    """
    return torch.cuda.is_initialized() and torch.cuda.is_current_stream_capturing()
