"""Where a recording comes from: versions, device, commit, command; no host, user or full path."""

from __future__ import annotations

import datetime
import platform
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch

from gradscope import __version__


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
