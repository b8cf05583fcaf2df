"""Rules about parts of a net that do not learn: dead ReLUs, frozen layers."""

from __future__ import annotations

import numpy as np

from gradscope.derived.health.rule import Rule, Sign
from gradscope.derived.health.run_data import Array, RecordedRun, median, name_some

DEAD_FRACTION = 0.99
NO_GRADIENT_FRACTION = 0.999
MIN_ROWS = 10

_SIDE_KINDS = ("bias", "dead_bias", "norm_bias")
"""A layer is judged by its other parameters: biases may rightly have no gradient."""


def check_dead_relu(run: RecordedRun) -> list[Sign]:
    """Find ReLU layers that put out almost only zeros."""
    zero = run.values("activations", "output_zero_fraction")
    names, types = (run.coordinate("activations", name) for name in ("layer", "layer_type"))
    if zero is None or names is None or types is None:
        return []
    is_relu = np.array(["relu" in str(kind).lower() for kind in types])
    if not is_relu.any():
        return _check_functional_relu(run, names)
    recent = _recent(zero)
    places = np.flatnonzero(is_relu & (recent >= DEAD_FRACTION))
    if not len(places):
        return []
    steps = run.steps("activations")
    layers = tuple(str(name) for name in names[places])
    message = f"{recent[places].max():.2%} of the outputs are zero in {name_some(list(layers))}"
    depth = run.coordinate("activations", "depth")
    is_blocked = depth is not None and _has_no_gradient_below(run, int(depth[places].max()))
    if is_blocked:
        message += "; no gradient reaches the layers before"
    first = int(steps[_first_true(np.asarray((zero[:, places] >= DEAD_FRACTION).any(axis=1)))])
    return [Sign("error" if is_blocked else "warning", message, layers, first, int(steps[-1]))]


def _check_functional_relu(run: RecordedRun, names: Array) -> list[Sign]:
    """Without activation modules, a dead one shows in the gradient of the layer that feeds it."""
    zero = run.values("activations", "output_grad_zero_fraction")
    owners = run.coordinate("gradients", "layer")
    if zero is None or owners is None or not np.isin(names, owners).all():
        return []
    weight_layers = run.weight_layers
    recent = _recent(zero)[weight_layers]
    dead = np.flatnonzero(recent >= NO_GRADIENT_FRACTION)
    if not len(dead) or dead[-1] == len(weight_layers) - 1:
        return []
    steps, place = run.steps("activations"), weight_layers[dead[-1]]
    message = f"{recent[dead[-1]]:.2%} of the output gradients are zero in {names[place]}"
    first = int(steps[_first_true(np.asarray(zero[:, place] >= NO_GRADIENT_FRACTION))])
    return [Sign("warning", message, (str(names[place]),), first, int(steps[-1]))]


def _recent(values: Array) -> Array:
    """Median over the last quarter of the rows."""
    return median(values[-max(1, len(values) // 4) :], axis=0)


def _first_true(is_true: Array) -> int:
    return int(np.argmax(is_true))


def _has_no_gradient_below(run: RecordedRun, depth: int) -> bool:
    grad_norm, depths = run.values("gradients", "grad_norm"), run.coordinate("gradients", "depth")
    if grad_norm is None or depths is None:
        return False
    newest = grad_norm[-1, (depths <= depth) & (depths >= 0)]
    return bool(len(newest) and np.all(newest == 0))


def check_frozen(run: RecordedRun) -> list[Sign]:
    """Find parameters that should train and do not, and those that the user froze."""
    grad_norm = run.values("gradients", "grad_norm")
    names = run.coordinate("gradients", "param")
    if grad_norm is None or names is None:
        return []
    pair = run.paired(("gradients", "grad_norm"), ("updates", "update_norm"))
    if pair is not None:
        moves = np.asarray((pair[1] > 0).any(axis=1))
        pair = pair[0][moves], pair[1][moves]
    if len(grad_norm if pair is None else pair[0]) < MIN_ROWS:
        return []
    steps = run.steps("gradients")
    found = []
    for severity, words, is_so in _kinds_of_frozen(run, grad_norm, pair):
        layers = tuple(str(name) for name in names[is_so])
        if layers:
            message = f"{words}: {name_some(list(layers))}"
            found.append(Sign(severity, message, layers, int(steps[0]), int(steps[-1])))
    return found


def _kinds_of_frozen(
    run: RecordedRun, grad_norm: Array, pair: tuple[Array, Array] | None
) -> list[tuple[str, str, Array]]:
    n = grad_norm.shape[1]
    kinds = _or(run.coordinate("gradients", "kind"), np.full(n, "weight"))
    trains = _or(run.coordinate("gradients", "requires_grad"), np.ones(n)).astype(int) != 0
    group = _or(run.coordinate("gradients", "param_group"), np.zeros(n, int))
    is_main = ~np.isin(kinds, _SIDE_KINDS)
    is_missing = np.isnan(grad_norm).all(axis=0)
    is_zero = ~is_missing & ~(grad_norm > 0).any(axis=0) & is_main & trains
    is_left_out = is_missing & trains & (group < 0) & is_main
    # Whoever trains a head only leaves out all that comes before; a hole is more likely a mistake.
    trained = np.flatnonzero(~is_missing)
    is_behind = np.arange(n) > (trained[0] if len(trained) else n)
    found = [
        ("warning", "gradients are exactly zero in", is_zero),
        ("warning", "no gradient comes to", is_missing & trains & (group >= 0) & is_main),
        ("warning", "not in the optimizer, though it needs gradients", is_left_out & is_behind),
        ("note", "not in the optimizer", is_left_out & ~is_behind),
        ("note", "frozen by the user", is_missing & ~trains & is_main),
    ]
    if pair is not None:  # gradients and updates of the steps at which anything moved
        stays = (pair[1] == 0).all(axis=0) & (pair[0] > 0).any(axis=0)
        found.append(("warning", "have gradients and never change", stays & is_main))
    return found


def _or(values: Array | None, default: Array) -> Array:
    return default if values is None else values


DEAD_RELU = Rule(
    name="dead ReLU",
    formula="median of output_zero_fraction over the last quarter of the rows at least zeros, in "
    "a layer whose type contains ReLU; if no activation is a module, output_grad_zero_fraction of "
    "a weight layer at least grad_zeros. An error if the gradients of all weights before the "
    "layer are 0",
    thresholds={"zeros": DEAD_FRACTION, "grad_zeros": NO_GRADIENT_FRACTION},
    advice="lower the learning rate or warm it up, start biases at 0, or use LeakyReLU or GELU",
    check=check_dead_relu,
    explains=(
        "vanishing gradients",
        "exploding gradients",
        "frozen layer",
        "stalled loss",
        "learning rate too low",
    ),
)
FROZEN = Rule(
    name="frozen layer",
    formula="in at least rows rows in which parameters change, grad_norm is 0 or missing, or "
    "update_norm is 0, in a weight that requires gradients; or the weight is not in the "
    "optimizer. A note if requires_grad is off, or if the optimizer lacks everything before the "
    "first trained parameter",
    thresholds={"rows": MIN_ROWS},
    advice="look for detach(), no_grad() or a parameter made after the optimizer, or freeze it by "
    "requires_grad_(False)",
    check=check_frozen,
    explains=("stalled loss",),
)

RULES = (DEAD_RELU, FROZEN)
