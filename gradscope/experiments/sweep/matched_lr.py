"""Learning rates for which the first steps at different alphas have equal size."""

from __future__ import annotations

import math
from dataclasses import dataclass

from gradscope.optim.shadow import ShadowTable


@dataclass(frozen=True)
class MatchedRates:
    """A learning rate and a weight decay for each alpha.

    Parameters
    ----------
    alpha, lr, weight_decay : tuple of float, one each per exponent
        ``lr * weight_decay``, what decoupled decay takes off a weight a step, is the same for all.
    """

    alpha: tuple[float, ...]
    lr: tuple[float, ...]
    weight_decay: tuple[float, ...]


def matched_lr(
    table: ShadowTable,
    lr: float,
    *,
    alpha: float = 0.0,
    n_steps: int = 50,
    weight_decay: float = 0.0,
) -> MatchedRates:
    """Match the root mean square of the global update over the first steps of one run.

    ``lr_a = lr * R_alpha / R_a`` with R the root mean square of the unit update over the measured
    steps up to ``n_steps``.

    Parameters
    ----------
    table : ShadowTable
        From `gradscope.optim.shadow.ShadowMoments` on a run from its first step.
    lr, alpha : float
        The setting that the others are matched to; alpha must be in the table.
    n_steps : int, default 50
        Steps to match over.
    weight_decay : float, default 0
        Decoupled decay at ``lr``; coupled decay has no exact match.

    Returns
    -------
    MatchedRates
        Read it as a description of the beginning: v changes, and with it the match. It supports
        no claim that one alpha is better than another.

    Raises
    ------
    ValueError
        Where the table lacks alpha or the steps, or an update is zero or not finite.
    """
    if alpha not in table.alpha:
        raise ValueError(f"alpha {alpha} was not measured; the table has {table.alpha}")
    if int(table.step[-1]) < n_steps:
        raise ValueError(f"the table ends at step {int(table.step[-1])}; {n_steps} are needed")
    mean_square = table.update_rms()[table.step <= n_steps].square().mean(0)
    rms = dict(zip(table.alpha, mean_square.sqrt().tolist(), strict=True))
    unusable = [a for a, value in rms.items() if not (math.isfinite(value) and value > 0)]
    if unusable:
        raise ValueError(f"the update is zero or not finite at alpha {unusable}; leave them out")
    rates = {a: lr * rms[alpha] / value for a, value in rms.items()}
    return MatchedRates(
        alpha=table.alpha,
        lr=tuple(rates.values()),
        weight_decay=tuple(weight_decay * lr / rate if rate else 0.0 for rate in rates.values()),
    )
