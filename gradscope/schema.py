"""THE vocabulary of a recording: groups, dimensions, variables, coordinates, attributes.

Data only, and of the standard library only. Every name that is written to or read from a recording
is declared here (a test checks it), so that a formula, a unit or a phase is said once and travels
with the numbers. Notation in the formulas: ``g`` gradient, ``theta`` parameter, ``m``, ``v`` raw
first and second moment, ``m_hat``, ``v_hat`` bias-corrected, ``u`` update, ``y`` output of a layer,
``delta`` gradient of the loss with respect to it, ``n`` number of finite entries.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

SCHEMA_VERSION = "2.0"
"""Major versions differ in meaning, minor ones only add names."""

STATUSES = ("running", "finished", "interrupted", "diverged", "failed")

GRAD_BIN_RANGE = (-80, 15)
"""First and last octave of ``grad_bin``: bin b counts entries with 2**b <= abs(g) < 2**(b + 1)."""

MOMENT_BIN_RANGE = (-149, 31)
"""First and last octave of ``moment_bin``: bin b counts entries with 2**b <= v < 2**(b + 1)."""

N_SKETCHES = 64
"""Projections kept for each parameter in ``/sketches``."""

PARAM_KINDS = ("weight", "bias", "norm_weight", "norm_bias", "dead_bias", "embedding", "other")
"""Roles of a parameter; ``dead_bias`` is a bias that the normalisation right behind it cancels."""


@dataclass(frozen=True)
class Variable:
    """One named array of a recording.

    ``dims`` are in storage order; ``dtype`` is NumPy's name; ``bool`` means int8 in the file with
    the attributes ``flag_values`` and ``flag_meanings``; ``str`` fixed-length UTF-8. Missing is NaN for floats
    and -1 for integers and booleans (attribute ``_FillValue``).
    """

    name: str
    dims: tuple[str, ...]
    long_name: str
    units: str = "1"
    reduction: str = "none"
    phase: str = ""
    formula: str = ""
    dtype: str = "float32"

    @property
    def attrs(self) -> dict[str, str]:
        """Attributes as they stand in the file; empty ones are left out."""
        names = ("long_name", "units", "reduction", "phase", "formula")
        return {name: getattr(self, name) for name in names if getattr(self, name)}


@dataclass(frozen=True)
class Group:
    """One group of a recording: variables that share their dimensions and their cadence."""

    name: str
    dims: tuple[str, ...]
    description: str
    variables: dict[str, Variable] = field(default_factory=dict)
    is_open: bool = False
    """Whether a user may log variables of their own into it."""


_Rows = dict[str, tuple[Any, ...]]
BEFORE, AFTER = "before_step", "after_step"
_COUNT: dict[str, Any] = {"dtype": "int64", "reduction": "count"}


def _variables(dims: tuple[str, ...], rows: _Rows, **common: Any) -> dict[str, Variable]:
    """Read rows of ``name: (long_name, reduction, formula, {whatever differs})``."""
    variables = {}
    for name, row in rows.items():
        own = row[-1] if isinstance(row[-1], dict) else {}
        words = dict(
            zip(("long_name", "reduction", "formula"), row[: -1 if own else None], strict=False)
        )
        variables[name] = Variable(name=name, **{"dims": dims, **common, **words, **own})
    return variables


# fmt: off
TRAINING = Group("training", ("step",), "One row for every attempted optimizer step.", is_open=True, variables={
    **_variables(("step",), {
        "loss": ("training loss of the step", "mean over the global batch", {"dtype": "float64"}),
        "is_skipped": ("step skipped by the gradient scaler", {"dtype": "bool", "phase": AFTER}),
        "n_microbatches": ("backward passes accumulated into the step", "count", {"dtype": "int32"}),
        "batch_size": ("examples in the step", "sum over micro-batches", {"dtype": "int32"}),
        "loss_scale": ("scale of the loss in mixed precision",),
        "total_grad_norm": ("gradient norm over all parameters, before clipping",
                            "root of the sum of squares over parameters", "sqrt(sum g^2) / clip_coefficient"),
        "clip_coefficient": ("factor that gradient clipping applied", "none", "min(1, max_norm / total_grad_norm)"),
        "optimizer": ("index of the optimizer that stepped", {"dtype": "int8"}),
        "wall_time": ("time since recording began", {"units": "s", "phase": AFTER, "dtype": "float64"}),
        "record_time": ("host time that recording took in the step", {"units": "s", "phase": AFTER}),
    }, phase=BEFORE),
    **_variables(("step", "param_group"), {
        "lr": ("learning rate",),
        "alpha": ("exponent of the second moment", "none",
                  "u = -lr * m_hat / (v_hat^alpha + eps); Adam 0.5, SGD 0"),
        "beta1": ("decay rate of the first moment",),
        "beta2": ("decay rate of the second moment",),
        "eps": ("epsilon of the optimizer",),
        "weight_decay": ("weight decay",),
    }, phase=BEFORE, dtype="float64"),
})

_SPLITS = {"train": "a fixed subset of the training split, eval mode, no augmentation",
           "val": "the validation split", "test": "the test split"}
EVALUATION = Group("evaluation", ("step",), "Metrics at theta_step; step 0 is before training.", is_open=True, variables={
    **_variables(("step",), {f"{s}_loss": (f"cross-entropy on {words}", "mean over examples", {"units": "nat"})
                             for s, words in _SPLITS.items()}, phase=AFTER, dtype="float64"),
    **_variables(("step",), {f"{s}_accuracy": (f"share of correct predictions on {words}", "mean over examples")
                             for s, words in _SPLITS.items()}, phase=AFTER, dtype="float64"),
})

GRADIENTS = Group(
    "gradients", ("step", "param"),
    "What the optimizer consumes: after all-reduce, unscaling and clipping, without weight decay.",
    _variables(("step", "param"), {
        "grad_norm": ("gradient norm", "root of the sum of squares", "sqrt(sum g^2)"),
        "grad_mean": ("mean gradient", "mean", "sum g / n"),
        "grad_abs_mean": ("mean absolute gradient", "mean", "sum |g| / n"),
        "grad_abs_max": ("largest absolute gradient", "maximum", "max |g|"),
        "grad_kurtosis": ("kurtosis of the gradient about zero", "ratio of means", "mean g^4 / (mean g^2)^2"),
        "grad_zero_fraction": ("share of gradient entries that are zero", "mean", "#(g = 0) / n"),
        "grad_nonfinite": ("gradient entries that are not finite", "count", "#(g is NaN or infinite)", {"dtype": "int64"}),
        "grad_param_cosine": ("cosine between gradient and parameter", "ratio of sums", "<g, theta> / (|g| |theta|)"),
    }, phase=BEFORE))

SECOND_MOMENTS = Group(
    "second_moments", ("step", "param"),
    "Raw moments of the optimizer after its step; state_step and beta2 correct their bias.",
    _variables(("step", "param"), {
        "exp_avg_sq_mean": ("mean second moment", "mean", "sum v / n"),
        "exp_avg_sq_max": ("largest second moment", "maximum", "max v"),
        "log_exp_avg_sq_mean": ("mean log second moment", "mean over v > 0", "mean ln v", {"units": "nat"}),
        "log_exp_avg_sq_var": ("variance of the log second moment", "population variance over v > 0", "var ln v",
                               {"units": "nat^2"}),
        "exp_avg_sq_zero_fraction": ("share of second moments that are zero", "mean", "#(v = 0) / n"),
        "exp_avg_norm": ("norm of the first moment", "root of the sum of squares", "sqrt(sum m^2)"),
        "signal_fraction": ("signal share of the moments", "ratio of sums",
                            "sum m_hat^2 / sum v_hat; pure noise gives (1 - beta1) / (1 + beta1), sudden growth more than 1"),
        "epsilon_fraction": ("share of entries where epsilon matters", "mean", "#(eps >= 0.1 * v_hat^alpha) / n"),
        "state_step": ("steps the optimizer has taken for the parameter", "none", "", {"dtype": "int64"}),
    }, phase=AFTER))

UPDATES = Group(
    "updates", ("step", "param"),
    "The measured change of each parameter, theta_k - theta_(k-1), weight decay included.",
    _variables(("step", "param"), {
        "update_norm": ("update norm", "root of the sum of squares", "sqrt(sum u^2)"),
        "param_norm": ("parameter norm before the step", "root of the sum of squares", "sqrt(sum theta^2)",
                       {"phase": BEFORE}),
        "update_grad_cosine": ("cosine between update and gradient; -1 is pure descent", "ratio of sums",
                               "<u, g> / (|u| |g|)"),
        "update_param_cosine": ("cosine between update and parameter", "ratio of sums", "<u, theta> / (|u| |theta|)"),
        "descent": ("first-order decrease of the loss", "sum", "-<g, u>"),
    }, phase=AFTER))

ACTIVATIONS = Group(
    "activations", ("step", "layer"),
    "Outputs of each layer and the gradient of the global-batch mean loss with respect to them.",
    _variables(("step", "layer"), {
        "output_mean": ("mean output", "mean over batch and features", "mean y"),
        "output_rms": ("root mean square output", "root mean square over batch and features", "sqrt(mean y^2)"),
        "output_abs_max": ("largest absolute output", "maximum", "max |y|"),
        "output_zero_fraction": ("share of outputs that are zero", "mean", "#(y = 0) / n"),
        "output_numel": ("output entries in the step", "count", "", {"dtype": "int64"}),
        "output_grad_rms": ("root mean square gradient of the layer output",
                            "root mean square over batch and features", "sqrt(mean delta^2)", {"phase": "backward"}),
        "output_grad_abs_max": ("largest absolute gradient of the layer output", "maximum", "max |delta|",
                                {"phase": "backward"}),
        "output_grad_zero_fraction": ("share of output gradients that are zero", "mean", "#(delta = 0) / n",
                                      {"phase": "backward"}),
    }, phase="forward"))

_OUTSIDE = {"zero": "exactly zero", "under": "below the first bin", "over": "above the last bin",
            "nonfinite": "not finite"}
HISTOGRAMS = Group(
    "histograms", ("step", "param"), "Counts by octave, in the same bins everywhere, so that they add.", {
        **_variables(("step", "param", "grad_bin"), {
            "grad_histogram": ("gradient entries by log2 magnitude", "count", "#(2^b <= |g| < 2^(b+1))"),
        }, phase=BEFORE, dtype="int64"),
        **_variables(("step", "param", "moment_bin"), {
            "exp_avg_sq_histogram": ("second-moment entries by log2", "count", "#(2^b <= v < 2^(b+1))"),
        }, phase=AFTER, dtype="int64"),
        **_variables(("step", "param"), {
            f"grad_histogram_{kind}": (f"gradient entries {words}", _COUNT) for kind, words in _OUTSIDE.items()
        }, phase=BEFORE),
        **_variables(("step", "param"), {
            f"exp_avg_sq_histogram_{kind}": (f"second-moment entries {words}", _COUNT)
            for kind, words in _OUTSIDE.items()
        }, phase=AFTER),
    })

SKETCHES = Group(
    "sketches", ("step", "param"),
    "Count sketches of each gradient (arXiv 0902.2206); their inner products estimate those of the gradients.",
    _variables(("step", "param", "sketch"), {
        "grad_sketch": ("count sketch of the gradient", "signed sum over the entries of a bucket", "sum_(i mod 64 = j) s_i g_i, s_i = +-1"),
    }, phase=BEFORE))

NOISE = Group(
    "noise", ("step", "param"),
    "Gradient noise from the micro-batches of a step (arXiv 1812.06162, appendix A).",
    _variables(("step", "param"), {
        "microbatch_grad_sq": ("mean squared norm of the micro-batch gradients", "mean over micro-batches",
                               "mean_i |g_i|^2, g_i of the mean loss of a micro-batch"),
        "noise_scale": ("simple gradient noise scale, in examples", "ratio of sums", "tr(Sigma) / |G|^2"),
    }, phase=BEFORE))

SPIKES = Group(
    "spikes", ("event",),
    "Flight recorder: full-rate rows around each event, in child groups named and built as the top-level ones.",
    _variables(("event",), {
        "spike_reason": ("why it fired: 0 loss spike, 1 non-finite loss, 2 non-finite gradient", {"dtype": "int8"}),
    }, phase=AFTER))

GROUPS: dict[str, Group] = {group.name: group for group in (
    TRAINING, EVALUATION, GRADIENTS, SECOND_MOMENTS, UPDATES, ACTIVATIONS, HISTOGRAMS, SKETCHES, NOISE, SPIKES)}

FORMER_NAMES = {"activations": "signals"}
"""What a group is called in files of schema version 1."""

_TEXT = {"dtype": "str", "units": ""}
_DEPTH: _Rows = {
    "depth": ("weight layers before, in first-execution order",),
    "relative_depth": ("depth, 0 at the input and 1 at the output", {"dtype": "float64"}),
    "layer_type": ("class of the layer", _TEXT),
    "stage": ("stage of the network, counted by changes of resolution",),
}
PARAM_COORDINATES = _variables(("param",), {
    "layer": ("layer that owns the parameter", _TEXT), **_DEPTH,
    "kind": ("role of the parameter", _TEXT),
    "numel": ("entries of the parameter", {"dtype": "int64"}),
    "shape": ("shape of the parameter", _TEXT),
    "fan_in": ("inputs of each output unit", {"dtype": "int64"}),
    "param_group": ("parameter group in the optimizer",),
    "requires_grad": ("whether the parameter trains", {"dtype": "bool"}),
}, dtype="int32")
LAYER_COORDINATES = _variables(("layer",), {
    **_DEPTH, "aliases": ("other names of the same module", _TEXT),
}, dtype="int32")
"""Coordinates that are no index, along ``param`` and along ``layer``."""

INDEXES: dict[str, Variable] = {name: variable for name, words in {
    "step": ("attempted optimizer step", {"dtype": "int64"}),
    "param": ("qualified parameter name", _TEXT),
    "layer": ("qualified module name", _TEXT),
    "param_group": ("parameter group of the optimizer",),
    "grad_bin": ("lower edge of the octave of the gradient, log2",),
    "moment_bin": ("lower edge of the octave of the second moment, log2",),
    "sketch": ("projection",),
    "event": ("step at which the flight recorder fired", {"dtype": "int64"}),
}.items() for name, variable in _variables((name,), {name: words}, dtype="int32").items()}
"""Index coordinates: one for each dimension that a recording may have."""

_DERIVED: dict[str, _Rows] = {
    "gradients": {
        "grad_rms": ("root mean square gradient", "root mean square", "grad_norm / sqrt(numel)", {"phase": BEFORE}),
    },
    "second_moments": {
        "exp_avg_sq_hat_mean": ("bias-corrected mean second moment", "mean",
                                "exp_avg_sq_mean / (1 - beta2^state_step)"),
    },
    "updates": {
        "update_rms": ("root mean square update", "root mean square", "update_norm / sqrt(numel)"),
        "update_ratio": ("relative update", "ratio of norms", "update_norm / param_norm"),
        "grad_param_product": ("product of gradient norm and parameter norm", "product of norms",
                               "grad_norm * param_norm", {"phase": BEFORE}),
        "effective_lr": ("effective learning rate", "ratio of norms", "update_norm / grad_norm"),
    },
}
DERIVED: dict[str, dict[str, Variable]] = {
    group: _variables(("step", "param"), rows, phase=AFTER) for group, rows in _DERIVED.items()}
"""Added by ``open_recording``, by group; never stored."""

ROOT_ATTRIBUTES = (
    "schema_version", "status", "is_complete", "created_at", "creation_library", "creation_library_version",
    "torch_version", "python_version", "numpy_version", "cuda_version", "device", "git_commit", "command", "seed",
    "model_name", "dataset_name", "optimizer_name", "optimizer_names", "sample_dims", "config_json",
    "record_bytes", "record_seconds", "first_nonfinite_step", "first_nonfinite_layer", "recorded_groups", "cadence",
    "resume_step", "world_size", "local_since_step",
)
"""Attributes of the root group.

``is_complete`` is 1 once the recording was properly closed. ``resume_step`` stands in a segment
only: rows of earlier segments beyond it are void. With several processes ``world_size`` says how
many, and ``local_since_step`` is the first step whose rows are rank 0's own, the others being lost.
"""
# fmt: on


def find(quantity: str) -> tuple[str, Variable]:
    """Return group name and declaration of a stored or derived variable.

    Raises
    ------
    KeyError
        If no variable of that name is declared.
    """
    for name, group in GROUPS.items():
        variables = group.variables | DERIVED.get(name, {})
        if quantity in variables:
            return name, variables[quantity]
    raise KeyError(quantity)
