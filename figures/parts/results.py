"""Access to the committed results."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

DATA = Path(__file__).parents[2] / "data"


def read_result(name: str) -> Any:
    """Return a result by its path below ``data/``, such as ``results/calibration.json``."""
    return json.loads((DATA / name).read_text(encoding="utf-8"))
