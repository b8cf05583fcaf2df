"""Where a recording comes from: versions, device, commit, command; what its user says of it.

No host, user or full path.
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import json
import platform
import subprocess
import sys
from collections.abc import Collection, Mapping
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


def describe_story(
    config: Any, name: str, tags: str | Collection[str], notes: str
) -> dict[str, Any]:
    """Return the root attributes that a user's own words become; nothing for what is not given.

    Parameters
    ----------
    config : mapping, dataclass, `argparse.Namespace` or None
        Settings of the training. Values that JSON does not know are written as text.
    name, notes : str
    tags : str or collection of str

    Raises
    ------
    TypeError
        If one is of another kind.
    ValueError
        If a tag is empty or has a comma.
    """
    tags = [tags] if isinstance(tags, str) and tags else list(tags)
    for kind, words in (("name", [name]), ("notes", [notes]), ("tags", tags)):
        for word in words:
            if not isinstance(word, str):
                raise TypeError(f"`{kind}` must be text; got {word!r}")
    for tag in tags:
        if not tag.strip() or "," in tag:
            raise ValueError(f"a tag must be text without commas; got {tag!r}")
    story = {"run_name": name, "tags": ", ".join(dict.fromkeys(tags)), "notes": notes}
    if config is not None:
        plain = _as_json(config)
        if not isinstance(plain, dict):
            raise TypeError(f"`config` must be a dict of settings; got {type(config).__name__}")
        story["config_json"] = json.dumps(plain, ensure_ascii=False)
    return {key: _storable(text) for key, text in story.items() if text}


def _as_json(value: Any) -> Any:
    """Turn settings into what JSON knows; anything else becomes its text."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: _as_json(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, argparse.Namespace):
        value = vars(value)
    if isinstance(value, Mapping):
        return {str(key): _as_json(own) for key, own in value.items()}
    if isinstance(value, list | tuple):
        return [_as_json(own) for own in value]
    if isinstance(value, np.generic) or (isinstance(value, torch.Tensor) and value.numel() == 1):
        value = value.item()
    return value if value is None or isinstance(value, bool | int | float | str) else _text(value)


def _text(value: Any) -> str:
    """Return the text of an object, or of its class if it has none."""
    try:
        return str(value)
    except Exception:  # of a user's own class
        return f"<{type(value).__name__}>"


def _storable(text: str) -> str:
    """Leave out what HDF5 cannot store in a text: null characters and halves of surrogate pairs."""
    return text.replace("\0", "").encode("utf-8", "replace").decode()


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
