"""Learning rate as a pure function of the step, without state to save."""

from __future__ import annotations

import math

from gradscope.experiments.config import Config


def lr_at(config: Config, step: int, *, n_steps: int, steps_per_epoch: int) -> float:
    """Return the learning rate that a step uses.

    constant: lr. step: lr * gamma^(milestones passed), milestones in epochs.
    cosine: lr * (1 + cos(pi (step - 1) / n_steps)) / 2, so that the first step has the full lr.

    Parameters
    ----------
    config : Config
        ``lr``, ``lr_schedule``, ``lr_milestones``, ``lr_gamma``.
    step : int
        Counted from 1.
    n_steps, steps_per_epoch : int
        Length of the run and of an epoch.
    """
    if config.lr_schedule == "cosine":
        return config.lr * (1 + math.cos(math.pi * (step - 1) / n_steps)) / 2
    if config.lr_schedule == "step":
        epochs_done = (step - 1) // steps_per_epoch
        passed = sum(milestone <= epochs_done for milestone in config.lr_milestones)
        return config.lr * config.lr_gamma**passed
    return config.lr
