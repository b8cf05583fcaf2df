"""What recording a run will cost, told before its first step."""

from __future__ import annotations

import copy
import math
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from gradscope import schema
from gradscope.experiments.training.setup import Experiment
from gradscope.optim.smes import SMES
from gradscope.record.recorder import Recorder
from gradscope.record.rows.cadence import count_rows, make_cadence

FILE_BYTES = 90_000
"""Of a recording without rows: names, attributes, coordinates."""
DEFLATED = 0.58
"""What compression leaves of the rows: 0.65 at 40 steps of VGG13, 0.55 at 320."""
DEFLATED_HISTOGRAMS = 0.02
"""What it leaves of histograms, which are zero nearly everywhere: 0.03 and 0.01."""
HISTOGRAM_EVERY = 10
"""The recorder's default, in recorded rows."""
BINS = {
    "grad_bin": schema.GRAD_BIN_RANGE[1] - schema.GRAD_BIN_RANGE[0] + 1,
    "moment_bin": schema.MOMENT_BIN_RANGE[1] - schema.MOMENT_BIN_RANGE[0] + 1,
}
PROBE_STEPS = 3
_PARAM_GROUPS = (schema.GRADIENTS, schema.SECOND_MOMENTS, schema.UPDATES)


@dataclass(frozen=True)
class Cost:
    """An estimate for one run.

    Parameters
    ----------
    bytes : int
        Of the recording.
    seconds : float
        That recording takes of the training thread.
    rows : int
        Steps of which statistics are kept.
    training_seconds : float
        That the steps themselves take, evaluation left out.
    """

    bytes: int
    seconds: float
    rows: int
    training_seconds: float


def estimate_cost(experiment: Experiment) -> Cost:
    """Estimate what recording will cost.

    Bytes are the declared sizes of the numbers, times a usual compression. Seconds are measured: a
    copy of the network takes a few recorded steps in a temporary folder. Neither the experiment nor
    torch's random state is changed.
    """
    n_rows = count_rows(make_cadence(experiment.config.every), experiment.n_steps)
    with torch.random.fork_rng(_cuda_devices(experiment)):
        row, step = _measure(experiment)
    n_bytes = FILE_BYTES + _count_bytes(experiment, n_rows)
    return Cost(n_bytes, row * n_rows, n_rows, step * experiment.n_steps)


def _count_bytes(experiment: Experiment, n_rows: int) -> int:
    """Bytes of all rows, compressed."""
    n_params = sum(1 for _ in experiment.model.parameters())
    n_layers = sum(not list(module.children()) for module in experiment.model.modules())
    of_params = n_rows * n_params * sum(_row_bytes(group) for group in _PARAM_GROUPS)
    of_layers = n_rows * n_layers * _row_bytes(schema.ACTIVATIONS)
    rows = of_params + of_layers + experiment.n_steps * _row_bytes(schema.TRAINING)
    n_histograms = -(-n_rows // HISTOGRAM_EVERY) * n_params
    histograms = n_histograms * _row_bytes(schema.HISTOGRAMS)
    return round(DEFLATED * rows + DEFLATED_HISTOGRAMS * histograms)


def _row_bytes(group: schema.Group) -> int:
    kinds = {"str": "O", "bool": "int8"}
    return sum(
        np.dtype(kinds.get(v.dtype, v.dtype)).itemsize
        * math.prod(BINS.get(dim, 1) for dim in v.dims)
        for v in group.variables.values()
    )


def _cuda_devices(experiment: Experiment) -> list[torch.device]:
    return [experiment.device] if experiment.device.type == "cuda" else []


def _measure(experiment: Experiment) -> tuple[float, float]:
    """Seconds of recording one row and of one step, the first step's preparations left out."""
    model = copy.deepcopy(experiment.model)
    optimizer = SMES(model.parameters(), lr=0.0, alpha=experiment.config.alpha)
    split = experiment.splits["train"]
    n = experiment.stream.batch_size
    images, labels = experiment.normalise(split.images[:n]), split.labels[:n]
    rows, steps = [], []
    with tempfile.TemporaryDirectory() as folder:
        with Recorder(model, optimizer, Path(folder) / "probe.h5", every=1) as recorder:
            for _ in range(PROBE_STEPS):
                started, recorded = time.perf_counter(), recorder.cost.seconds
                loss = experiment.objective.loss(model(images), labels)
                loss.backward()
                optimizer.step()
                optimizer.zero_grad()
                loss.item()
                rows.append(recorder.cost.seconds - recorded)
                steps.append(time.perf_counter() - started - rows[-1])
    return float(np.median(rows[1:])), float(np.median(steps[1:]))
