"""Checkpoints: a file beside a recording from which a run resumes bit for bit.

The schedules are pure functions of the step, and nothing in a run draws from other generators than
torch's and its stream's, so weights, optimizer, loss scaler, stream, recorder and torch's random
state are everything. Of several processes the first writes for all: only torch's random state is a
process's own (before each forward the first one's buffers go to all).
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import os
import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from gradscope.errors import RecordingError, UsageError
from gradscope.experiments.config import Config
from gradscope.experiments.training.environment import find_device
from gradscope.experiments.training.setup import Experiment
from gradscope.record.recorder import Recorder

HEAD = b"gradscope checkpoint 2\n"
"""What a file begins with; then the SHA-256 of the rest, then what torch wrote."""
SUFFIX = ".checkpoint"


@dataclass(frozen=True)
class Checkpoint:
    """State of a run after a step.

    Parameters
    ----------
    config : Config
        As resolved.
    every : int
        Steps between checkpoints.
    step : int
        Steps taken.
    metrics : dict of str to float
        The latest evaluation.
    states : dict
        ``state_dict`` of model, optimizer, scaler, stream and recorder; under "random", torch's
        random states of each process.
    """

    config: Config
    every: int
    step: int
    metrics: dict[str, float]
    states: dict[str, Any]

    def require(self, config: Config) -> None:
        """Refuse another configuration than the checkpoint's.

        Raises
        ------
        UsageError
            Names the first key that differs.
        """
        device = find_device(config.device).type
        other = dataclasses.asdict(config.replace(device=device).resolved())
        own = dataclasses.asdict(self.config)
        for name, value in own.items():
            if other[name] != value:
                raise UsageError(
                    f"a resumed run keeps its configuration: `{name}` is {value!r} in the "
                    f"checkpoint; got {other[name]!r}. Leave it out, or start a new run"
                )

    def restore(self, experiment: Experiment, recorder: Recorder) -> None:
        """Restore an experiment, its recorder and torch's random state.

        Raises
        ------
        UsageError
            In another number of processes than the checkpoint's.
        """
        processes, randoms = experiment.processes, self.states["random"]
        if processes.size != len(randoms):
            raise UsageError(
                f"the checkpoint is of a run in {len(randoms)} processes; got {processes.size}. "
                "Resume it in as many"
            )
        experiment.model.load_state_dict(self.states["model"])
        experiment.optimizer.load_state_dict(self.states["optimizer"])
        experiment.scaler.load_state_dict(self.states["scaler"])
        experiment.stream.load_state_dict(self.states["stream"])
        recorder.load_state_dict(self.states["recorder"])
        own = randoms[processes.rank]
        torch.set_rng_state(own["cpu"])
        if "cuda" in own:
            torch.cuda.set_rng_state(own["cuda"], experiment.device)


def check_checkpoints(every: int | None, path: Path | None) -> None:
    """Refuse checkpoints where there can be none; ``every`` is None where none are asked for.

    Raises
    ------
    UsageError
        Without a recording, or with less than one step between them.
    """
    if every is None:
        return
    if path is None or every < 1:
        raise UsageError(
            "`checkpoint_every` must be at least 1 and needs a recording to lie beside; "
            f"got {every} for {path}"
        )


def take_checkpoint(
    experiment: Experiment,
    recorder: Recorder,
    *,
    every: int,
    metrics: dict[str, float],
) -> Checkpoint:
    """Collect the state of a run between two steps, after flushing its recording.

    All processes of the run call this.
    """
    recorder.flush()
    state = recorder.state_dict()
    return Checkpoint(
        config=experiment.config,
        every=every,
        step=state["step"],
        metrics=metrics,
        states={
            "model": experiment.model.state_dict(),
            "optimizer": experiment.optimizer.state_dict(),
            "scaler": experiment.scaler.state_dict(),
            "stream": experiment.stream.state_dict(),
            "recorder": state,
            "random": _random_states(experiment),
        },
    )


def _random_states(experiment: Experiment) -> list[dict[str, torch.Tensor]]:
    """Torch's random states of each process, by rank."""
    device = experiment.device
    own = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        own["cuda"] = torch.cuda.get_rng_state(device)
    of_all = [experiment.processes.gather(state.to(device)) for state in own.values()]
    ranks = zip(*of_all, strict=True)
    return [dict(zip(own, (state.cpu() for state in rank), strict=True)) for rank in ranks]


def checkpoint_path(path: Path) -> Path:
    """Return where the checkpoint of a recording lies; of a checkpoint, the path itself.

    >>> checkpoint_path(Path("runs/a.h5")).name
    'a.h5.checkpoint'
    """
    return path if path.suffix == SUFFIX else path.with_name(path.name + SUFFIX)


def save_checkpoint(checkpoint: Checkpoint, path: Path) -> None:
    """Write a checkpoint atomically.

    Raises
    ------
    OSError
        If it cannot be written; the old one is kept.
    """
    contents = {f.name: getattr(checkpoint, f.name) for f in dataclasses.fields(checkpoint)}
    buffer = io.BytesIO()
    torch.save(contents | {"config": checkpoint.config.to_json()}, buffer)
    body = buffer.getbuffer()
    partial = path.with_name(path.name + ".new")
    with partial.open("wb") as file:
        file.write(HEAD + hashlib.sha256(body).digest())
        file.write(body)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint; nothing in the file is executed (``weights_only``).

    Parameters
    ----------
    path : Path
        The checkpoint, or the recording beside it.

    Raises
    ------
    UsageError
        If there is none.
    RecordingError
        If it is damaged, or no checkpoint of this version.
    """
    path = checkpoint_path(path)
    if not path.is_file():
        raise UsageError(
            f"no checkpoint {path}; runs with --checkpoint-every write one, and remove it when "
            "they are finished"
        )
    head, digest, body = _cut(path.read_bytes(), len(HEAD), hashlib.sha256().digest_size)
    if head != HEAD:
        raise RecordingError(f"{path} is no checkpoint of this version of gradscope")
    if hashlib.sha256(body).digest() != digest:
        raise RecordingError(f"the checkpoint {path} is damaged; start the run anew")
    try:
        contents = torch.load(io.BytesIO(body), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise RecordingError(f"{path} holds what no checkpoint holds, and was not read") from error
    config = Config.from_mapping(json.loads(contents.pop("config")), source=str(path))
    return Checkpoint(config=config, **contents)


def _cut(content: bytes, *lengths: int) -> tuple[bytes, bytes, bytes]:
    first, second = lengths[0], sum(lengths)
    return content[:first], content[first:second], content[second:]
