"""The dynamics of gradients: record, keep, test and draw them.

Names are imported when they are first used, so that ``import gradscope`` costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gradscope.optim.smes import SMES
    from gradscope.record.recorder import Recorder
    from gradscope.store.read.recording import latest, open_recording
    from gradscope.store.read.runs import open_runs

__version__ = "0.1.0"

_HOMES = {
    "Recorder": "gradscope.record.recorder",
    "SMES": "gradscope.optim.smes",
    "latest": "gradscope.store.read.recording",
    "open_recording": "gradscope.store.read.recording",
    "open_runs": "gradscope.store.read.runs",
}

__all__ = ["SMES", "Recorder", "__version__", "latest", "open_recording", "open_runs"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'gradscope' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
