"""What every test begins with."""

from __future__ import annotations

import sys

import pytest


@pytest.fixture(autouse=True)
def _denormals():
    """Undo the flushing of denormals that code compiled with -ffast-math turns on when it loads.

    Inductor's C++ does; numbers computed here would then differ from those of a fresh process.
    """
    if "torch" in sys.modules:
        sys.modules["torch"].set_flush_denormal(False)
