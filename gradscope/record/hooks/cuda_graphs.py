"""CUDA graphs: a captured step has fixed rows, and each replay fills them anew.

While a step is captured its statistics go to rows of their own, which the graph's kernels overwrite
at each replay; `Recorder.advance` then copies them, on the device, to the rows of the next step.
"""

from __future__ import annotations

import torch


def is_capturing() -> bool:
    """Whether the work of this thread is being captured into a CUDA graph and not done."""
    return torch.cuda.is_available() and torch.cuda.is_current_stream_capturing()
