"""Where a recording comes from: versions, device, commit, command; no host, user or full path."""

from __future__ import annotations

import datetime
import platform
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from gradscope import __version__, schema
from gradscope.record.model.modules import device_of
from gradscope.record.model.wrappers import class_name
from gradscope.record.rows.cadence import Cadence
from gradscope.record.settings import Settings


def describe_environment(device: torch.device) -> dict[str, str]:
    """Collect the root attributes that tell what wrote a recording."""
    return {
        "created_at": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "creation_library": "gradscope",
        "creation_library_version": __version__,
        "torch_version": torch.__version__,
        "python_version": platform.python_version(),
        "numpy_version": np.__version__,
        "cuda_version": torch.version.cuda or "",
        "device": _device_name(device),
        "git_commit": _git_commit(),
        "command": _command(),
    }


def describe_run(
    models: Mapping[str, nn.Module],
    optimizers: Mapping[str, torch.optim.Optimizer],
    settings: Settings,
    every: str | int | Cadence,
) -> dict[str, Any]:
    """Return the root attributes that are known from the start."""
    return describe_environment(device_of(models)) | {
        "model_name": "-".join(class_name(m) for m in models.values()),
        "recorded_groups": " ".join(name for name in schema.GROUPS if name in settings.groups),
        "cadence": "custom" if callable(every) else str(every),
        "optimizer_name": " ".join(type(o).__name__ for o in optimizers.values()),
        "optimizer_names": " ".join(optimizers).strip(),
    }


def _device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return f"cuda: {torch.cuda.get_device_name(device)}"
    return device.type


def _git_commit() -> str:
    """Commit of the folder that the training runs in; empty outside a repository."""
    command = ["git", "rev-parse", "--short=12", "HEAD"]
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=5, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return result.stdout.strip() if result.returncode == 0 else ""


def _command() -> str:
    """The command as typed, with the program's folder left out, and home folders shortened."""
    if not sys.argv or not sys.argv[0]:
        return ""
    words = [Path(sys.argv[0]).name, *sys.argv[1:]]
    home = str(Path.home())
    return " ".join(word.replace(home, "~") if len(home) > 1 else word for word in words)
