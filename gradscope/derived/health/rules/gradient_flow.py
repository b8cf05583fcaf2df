"""Rules about how activations and gradients change with depth."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gradscope.derived.health.rule import Rule, Sign
from gradscope.derived.health.run_data import Array, RecordedRun, median

GRADIENT_FACTOR = 1e3
OUTPUT_FACTOR = 1e3
HEAD_RMS = 30.0
FIRST_STEPS = 10
"""Number of steps that count as the beginning."""
MIN_LAYERS = 4


@dataclass(frozen=True)
class Flow:
    """Norms of one quantity by weight layer, from the input to the output."""

    steps: Array
    norms: Array
    names: tuple[str, ...]
    what: str

    def ratio(self) -> Array:
        """Return the first quarter over the last, by row; NaN where a norm is 0 or missing."""
        first, last = (median(np.log(self._known[:, part]), axis=1) for part in self.quarters)
        return np.asarray(np.exp(first - last))

    @property
    def _known(self) -> Array:
        return np.where(np.isfinite(self.norms) & (self.norms > 0), self.norms, np.nan)

    @property
    def quarters(self) -> tuple[slice, slice]:
        """Places of the first and of the last quarter of the layers."""
        n = max(1, len(self.names) // 4)
        return slice(0, n), slice(len(self.names) - n, None)


def gradient_flow(run: RecordedRun, rows: str = "seen") -> Flow | None:
    """Return the norm of the output gradient of each weight layer, else of the weight gradient."""
    rms, numel = (run.values("activations", n, rows) for n in ("output_grad_rms", "output_numel"))
    if rms is not None and numel is not None:
        places = run.weight_layers
        norms = (rms * np.sqrt(numel))[:, places]
        names, steps = run.coordinate("activations", "layer"), run.steps("activations", rows)
        what = "the gradient of the layers' outputs"
    else:
        grad_norm = run.values("gradients", "grad_norm", rows)
        if grad_norm is None:
            return None
        places = run.weights("gradients")
        norms = grad_norm[:, places]
        names, steps = run.coordinate("gradients", "param"), run.steps("gradients", rows)
        what = "the gradient norm of the weights"
    # Layers that are always missing, as in a frozen backbone, are excluded.
    is_known = np.isfinite(norms).any(axis=0)
    if names is None or is_known.sum() < MIN_LAYERS:
        return None
    known = tuple(str(name) for name in names[places][is_known])
    return Flow(steps, norms[:, is_known], known, what)


def _check_gradients(run: RecordedRun, *, is_vanishing: bool) -> list[Sign]:
    """Check the beginning and the recorded rows; report the worse of the two."""
    found = []
    for rows in ("seen", "first") if run.window is None else ("seen",):
        flow = gradient_flow(run, rows)
        if flow is None:
            continue
        is_looked_at = flow.steps <= (FIRST_STEPS if rows == "first" else flow.steps[-1])
        ratio = float(median(flow.ratio()[is_looked_at]))
        excess = 1 / ratio if is_vanishing else ratio
        if excess >= GRADIENT_FACTOR:
            found.append((excess, flow, flow.steps[is_looked_at]))
    if not found:
        return []
    excess, flow, steps = max(found, key=lambda item: item[0])
    verb = "smaller" if is_vanishing else "larger"
    message = (
        f"{flow.what} is {excess:.2g} times {verb} in the first quarter of the net than in the "
        f"last (median of steps {steps[0]:,} to {steps[-1]:,})"
    )
    layers = flow.names[flow.quarters[0]]
    return [Sign("warning", message, layers, int(steps[0]), int(steps[-1]))]


def check_vanishing(run: RecordedRun) -> list[Sign]:
    """Find gradients that shrink toward the input."""
    return _check_gradients(run, is_vanishing=True)


def check_exploding(run: RecordedRun) -> list[Sign]:
    """Find gradients that grow toward the input."""
    return _check_gradients(run, is_vanishing=False)


def check_init(run: RecordedRun) -> list[Sign]:
    """Find outputs that grow or shrink with depth at initialisation."""
    rms = run.values("activations", "output_rms", "first")
    steps, names = run.steps("activations", "first"), run.coordinate("activations", "layer")
    if rms is None or names is None or steps[0] > 1 or run.window is not None:
        return []
    places = run.weight_layers
    outputs = np.where(rms[0, places] > 0, rms[0, places], np.nan)
    layers = tuple(str(name) for name in names[places])
    n = max(1, len(layers) // 4)
    if len(layers) >= MIN_LAYERS:
        # A small head is good practice, so the head is excluded from the check for shrinking
        # outputs.
        grown = float(median(outputs[-n:]) / median(outputs[:n]))
        shrunk = float(median(outputs[:n]) / median(outputs[-n - 1 : -1]))
        for factor, verb in ((grown, "larger"), (shrunk, "smaller")):
            if factor >= OUTPUT_FACTOR:
                message = (
                    f"at step {steps[0]} the outputs of the last quarter of the net are "
                    f"{factor:.2g} times {verb} than those of the first"
                )
                return [Sign("warning", message, layers[-n:], int(steps[0]), int(steps[0]))]
    if layers and outputs[-1] >= HEAD_RMS:
        message = f"at step {steps[0]} the last layer puts out values of RMS {outputs[-1]:.3g}"
        return [Sign("warning", message, layers[-1:], int(steps[0]), int(steps[0]))]
    return []


BAD_INIT = Rule(
    name="bad init",
    formula="output_rms of the weight layers in the first row: the median of the last quarter of "
    "the network is factor times that of the first quarter or more, or (without the head) 1 / "
    "factor of it or less; or that of the head is at least rms",
    thresholds={"factor": OUTPUT_FACTOR, "rms": HEAD_RMS},
    advice="initialise with variance 2 / fan_in before ReLU, 1 / fan_in before tanh, or add norms",
    check=check_init,
    explains=(
        "vanishing gradients",
        "exploding gradients",
        "learning rate too high",
        "stalled loss",
        "learning rate too low",
        "gradient blow-up",
        "dead ReLU",
    ),
)
VANISHING = Rule(
    name="vanishing gradients",
    formula="ratio of the first to the last quarter of the network in output_grad_rms * "
    "sqrt(output_numel) of the weight layers (grad_norm of the weights if not recorded), median "
    "over the last rows or over the first 10 steps: at most 1 / factor",
    thresholds={"factor": GRADIENT_FACTOR},
    advice="add residual connections or normalisation, or initialise for the activation in use",
    check=check_vanishing,
    explains=("learning rate too low", "stalled loss"),
)
EXPLODING = Rule(
    name="exploding gradients",
    formula="the ratio of the rule vanishing gradients is at least factor",
    thresholds={"factor": GRADIENT_FACTOR},
    advice="scale the initial weights down, add normalisation, or clip the gradient norm",
    check=check_exploding,
    explains=("learning rate too low", "stalled loss", "gradient blow-up"),
)

RULES = (BAD_INIT, VANISHING, EXPLODING)
