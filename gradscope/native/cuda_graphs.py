"""CUDA graphs: a captured step has fixed rows, and each replay fills them anew.

While a step is captured its statistics go to rows of their own, which the graph's kernels overwrite
at each replay; `Recorder.advance` then copies them, on the device, to the rows of the next step.
"""

from __future__ import annotations

import torch


def is_capturing() -> bool:
    """Whether the work of this thread is being captured into a CUDA graph and not done.

    Asked several times in each step, so the driver is not: ``torch.cuda.is_available()`` opens
    NVML's library anew at each call where a framework has set ``PYTORCH_NVML_BASED_CUDA_CHECK``.
    """
    return torch.cuda.is_initialized() and torch.cuda.is_current_stream_capturing()
