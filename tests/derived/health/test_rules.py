"""Each rule finds what was planted by formula, says where, and is silent without its evidence."""

from pathlib import Path

import numpy as np
import pytest

from gradscope.derived.health.check import RULES, check_health
from gradscope.derived.health.rule import Rule, Sign
from tests.derived.health.health_trees import N_LAYERS, drop, healthy, write

WEIGHTS = [f"layers.{2 * k}.weight" for k in range(N_LAYERS)]
LAYERS = [f"layers.{2 * k}" for k in range(N_LAYERS)]
DEPTH = np.arange(N_LAYERS)
NOT_LEARNING = 2.3 + 0.01 * np.sin(np.arange(120))


def found(tree, window=None):
    return {f.rule: f for f in check_health(tree, window=window) if f.severity != "note"}


def notes(tree):
    return {f.rule: f for f in check_health(tree) if f.severity == "note"}


def slope(tree, factor):
    """Multiply gradients by ``factor`` from the last layer to the first."""
    by_layer = factor ** (1 - DEPTH / (N_LAYERS - 1))
    tree = write(tree, "activations/output_grad_rms", 1e-2 * np.repeat(by_layer, 2))
    return write(tree, "gradients/grad_norm", by_layer)


@pytest.mark.parametrize("groups", [(), ("activations",)], ids=["outputs", "weights only"])
@pytest.mark.parametrize(
    ("factor", "rule"), [(1e-6, "vanishing gradients"), (1e6, "exploding gradients")]
)
def test_gradients_that_change_with_depth(factor, rule, groups):
    result = found(drop(slope(healthy(), factor), *groups))
    assert set(result) == {rule}
    # Medians over two layers each: the outermost quarters lie 6 of 7 steps apart.
    assert f"{10 ** (6 * 6 / 7):.2g} times" in result[rule].message
    assert result[rule].layers == tuple((WEIGHTS if groups else LAYERS)[:2])
    assert (result[rule].first_step, result[rule].last_step) in {(1, 120), (1, 10)}
    assert found(drop(slope(healthy(), factor**0.3), *groups)) == {}
    assert found(drop(slope(healthy(), factor), "activations", "gradients")) == {}


def test_gradients_that_vanish_at_first_only_are_told():
    tree = healthy()
    row = 1e-2 * np.repeat(1e-6 ** (1 - DEPTH / (N_LAYERS - 1)), 2)
    result = found(write(tree, "activations/output_grad_rms", row, slice(10)))
    assert set(result) == {"vanishing gradients"}
    assert "steps 1 to 10" in result["vanishing gradients"].message


@pytest.mark.parametrize(("factor", "verb"), [(1e6, "larger"), (1e-6, "smaller")])
def test_bad_init_by_depth(factor, verb):
    by_layer = np.repeat(factor ** (DEPTH / (N_LAYERS - 1)), 2)
    result = found(write(healthy(), "activations/output_rms", by_layer))
    assert set(result) == {"bad init"} and verb in result["bad init"].message
    assert result["bad init"].layers == tuple(LAYERS[-2:]) and result["bad init"].last_step == 1
    assert found(write(healthy(), "activations/output_rms", by_layer), window=50) == {}


def test_bad_init_by_a_loud_head_but_a_small_or_zero_head_is_fine():
    loud = write(healthy(), "activations/output_rms", 100.0, 0, slice(-2, None))
    assert found(loud)["bad init"].layers == ("layers.14",)
    for value in (1e-6, 0.0):
        assert found(write(healthy(), "activations/output_rms", value, 0, slice(-2, None))) == {}


def test_dead_relu_blocks_what_lies_before():
    tree = write(healthy(), "activations/output_zero_fraction", 1.0, slice(30, None), 7)
    result = found(tree)
    assert set(result) == {"dead ReLU"} and result["dead ReLU"].severity == "warning"
    assert result["dead ReLU"].layers == ("layers.7",) and result["dead ReLU"].first_step == 31
    blocked = write(tree, "gradients/grad_norm", 0.0, slice(30, None), slice(0, 4))
    assert found(blocked)["dead ReLU"].severity == "error"
    assert "no gradient reaches" in found(blocked)["dead ReLU"].message


def test_sparse_relus_and_zeros_of_other_layers_are_fine():
    assert found(write(healthy(), "activations/output_zero_fraction", 0.98)) == {}
    assert found(write(healthy(), "activations/output_zero_fraction", 1.0, columns=6)) == {}


def test_dead_functional_relu_shows_in_the_output_gradient():
    tree = healthy()
    saturated = write(tree, "activations/output_grad_zero_fraction", 1.0, slice(60, None), 6)
    assert found(saturated) == {}  # there are activation modules, and they are not dead
    activations = tree["activations"].to_dataset(inherit=False)
    tree["activations"] = type(tree)(activations.isel(layer=slice(0, None, 2)))
    dead = write(tree, "activations/output_grad_zero_fraction", 1.0, slice(60, None), 3)
    assert found(dead)["dead ReLU"].layers == ("layers.6",)
    assert found(dead)["dead ReLU"].first_step == 61
    assert found(tree) == {}


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("gradients/grad_norm", 0.0, "exactly zero"),
        ("gradients/grad_norm", np.nan, "no gradient comes"),
        ("updates/update_norm", 0.0, "never change"),
    ],
)
def test_frozen_layer(path, value, words):
    result = found(write(healthy(), path, value, columns=2))
    assert set(result) == {"frozen layer"} and words in result["frozen layer"].message
    assert result["frozen layer"].layers == ("layers.4.weight",)
    once = write(healthy(), path, value, slice(0, 60), 2)
    assert found(once) == {}


def with_coordinate(tree, name, values):
    for group in ("gradients", "updates"):
        dataset = tree[group].to_dataset(inherit=False).assign_coords({name: ("param", values)})
        tree[group] = type(tree)(dataset)
    return tree


def test_what_the_user_froze_is_a_note():
    tree = write(healthy(), "gradients/grad_norm", np.nan, columns=slice(0, 3))
    tree = write(tree, "updates/update_norm", np.nan, columns=slice(0, 3))
    frozen = with_coordinate(tree.copy(deep=True), "requires_grad", [0] * 3 + [1] * 5)
    assert found(frozen) == {} and "frozen by the user" in notes(frozen)["frozen layer"].message
    head_only = with_coordinate(tree.copy(deep=True), "param_group", [-1] * 3 + [0] * 5)
    assert found(head_only) == {}
    assert notes(head_only)["frozen layer"].layers == tuple(WEIGHTS[:3])


def test_a_hole_in_the_optimizer_is_a_warning():
    tree = write(healthy(), "gradients/grad_norm", np.nan, columns=5)
    tree = with_coordinate(tree, "param_group", [0] * 5 + [-1] + [0] * 2)
    assert "not in the optimizer" in found(tree)["frozen layer"].message


def test_learning_rate_too_high():
    fast = write(healthy(), "updates/update_ratio", 0.5, slice(0, 10))
    assert found(fast) == {}  # the loss does not mind
    loss = healthy()["training/loss"].values
    loss[3] = 50.0
    result = found(write(fast, "training/loss", loss))
    assert set(result) == {"learning rate too high"}
    assert "0.5 of its norm" in result["learning rate too high"].message
    assert "2.3 to 50" in result["learning rate too high"].message
    assert found(write(healthy(), "training/loss", loss)) == {}  # a spike at a sound pace


def test_learning_rate_too_low():
    still = write(healthy(), "training/loss", 2.3 - 1e-3 * np.arange(120))
    slow = write(still, "updates/update_ratio", 1e-7)
    assert set(found(slow)) == {"learning rate too low"}
    assert "1e-07" in found(slow)["learning rate too low"].message
    rising = write(slow, "training/lr", np.linspace(0, 0.1, 120)[:, None])
    assert found(rising) == {}  # still warming up
    assert found(write(healthy(), "updates/update_ratio", 1e-7)) == {}  # the loss falls well


def as_transformer(tree):
    types = np.resize(["MultiheadAttention", "Linear", "LayerNorm"], N_LAYERS)
    return with_coordinate(tree, "layer_type", types)


def test_transformer_without_warmup():
    fast = write(healthy(), "updates/update_ratio", 0.5, slice(0, 10))
    loss = healthy()["training/loss"].values
    loss[3] = 50.0
    cold = as_transformer(write(fast, "training/loss", loss))
    assert set(found(cold)) == {"transformer without warm-up"}
    assert "follows from: transformer" in notes(cold)["learning rate too high"].message
    warm = write(cold, "training/lr", np.minimum(1, np.arange(1, 121) / 40)[:, None] * 0.1)
    assert set(found(warm)) == {"learning rate too high"}
    assert found(as_transformer(healthy())) == {}


def test_transformer_whose_gradients_collapse_after_the_start():
    row = 1e-2 * np.repeat(1e-6 ** (1 - DEPTH / (N_LAYERS - 1)), 2)
    tree = write(healthy(), "activations/output_grad_rms", row, slice(12, None))
    cold = as_transformer(write(tree, "training/loss", NOT_LEARNING))
    result = found(cold)
    assert set(result) == {"transformer without warm-up"}
    assert result["transformer without warm-up"].first_step == 13
    assert set(found(write(tree, "training/loss", NOT_LEARNING))) == {"vanishing gradients"}


def test_fp16_overflow():
    tree = healthy()
    calibrating = write(tree, "training/is_skipped", 1.0, slice(0, 12))
    assert found(calibrating) == {}
    rare = write(tree, "training/is_skipped", 1.0, [50, 100])
    assert found(rare) == {}
    often = write(tree, "training/is_skipped", 1.0, slice(30, None, 5))
    assert found(often)["fp16 overflow"].severity == "warning"
    assert found(often)["fp16 overflow"].message.startswith("18% of the steps from 21 on")
    lost = write(tree, "training/is_skipped", 1.0, slice(60, None))
    lost = write(lost, "training/loss_scale", 2.0**-20, slice(100, None))
    lost = write(lost, "gradients/grad_nonfinite", 5, slice(60, None))
    lost = write(lost, "training/loss", np.nan, slice(60, None))
    assert (
        set(found(lost)) == {"fp16 overflow"} and found(lost)["fp16 overflow"].severity == "error"
    )
    assert "the loss scale fell to 9.54e-07" in found(lost)["fp16 overflow"].message


def test_nonfinite_values():
    nan_at_end = write(healthy(), "training/loss", np.nan, slice(100, None))
    assert found(nan_at_end)["non-finite values"].first_step == 101
    now_and_then = np.where(np.arange(1, 121) % 10 == 1, healthy()["training/loss"].values, np.nan)
    assert found(write(healthy(), "training/loss", now_and_then)) == {}
    assert found(write(healthy(), "training/loss", np.nan)) == {}  # nobody logged a loss
    infinite = write(healthy(), "training/loss", np.inf, 70)
    assert "infinite in 1 of 120" in found(infinite)["non-finite values"].message
    bad = write(healthy(), "gradients/grad_nonfinite", 3, slice(80, 82), slice(1, 6))
    result = found(bad)["non-finite values"]
    assert result.severity == "error" and result.layers == tuple(WEIGHTS[1:6])
    assert (result.first_step, result.last_step) == (81, 82) and "and 2 more" in result.message


def test_diverged_loss():
    up = write(healthy(), "training/loss", np.linspace(2.3, 9.0, 120))
    assert (
        set(found(up)) == {"diverged loss"}
        and "2.3 at step 1" in found(up)["diverged loss"].message
    )
    stopped = healthy(n_steps=5, status="diverged")
    assert set(found(stopped)) == {"diverged loss"}
    falling_below_zero = write(healthy(), "training/loss", np.linspace(1.0, -50, 120))
    assert found(falling_below_zero) == {}


def test_losses_of_two_optimizers_are_not_compared():
    tree = write(healthy(), "training/loss", np.linspace(2.3, 9.0, 120))
    training = tree["training"].to_dataset(inherit=False)
    training["optimizer"] = ("step", 1 + np.arange(120) % 2)
    tree.attrs["optimizer_names"] = "a b"
    tree["training"] = type(tree)(training)
    assert found(tree) == {}


def test_stalled_loss():
    assert set(found(write(healthy(), "training/loss", NOT_LEARNING))) == {"stalled loss"}
    # three low rows at the beginning of a loss that falls from 1 to 0.8
    noisy = np.linspace(1, 0.8, 120)
    noisy[:3] = 0.8
    assert found(write(healthy(), "training/loss", noisy)) == {}
    # a policy gradient's loss has either sign, one of densities passes zero once
    signs = np.where(np.arange(120) % 3 == 0, -1.0, 1.5)
    assert found(write(healthy(), "training/loss", signs)) == {}
    rising = found(write(healthy(), "training/loss", np.linspace(-2, 3, 120)))
    assert set(rising) == {"diverged loss"}
    assert found(write(healthy(), "training/loss", 2.3 - 1e-3 * np.arange(120))) == {}


def test_gradient_blow_up():
    norms = np.where(np.arange(120) == 90, 1e4, 1.0)
    result = found(write(healthy(), "training/total_grad_norm", norms))
    assert set(result) == {"gradient blow-up"} and result["gradient blow-up"].first_step == 91
    assert found(write(healthy(), "training/total_grad_norm", np.minimum(norms, 100))) == {}


def test_every_rule_is_told_of_here_and_says_what_to_do():
    text = Path(__file__).read_text(encoding="utf-8")
    for rule in RULES:
        assert f'"{rule.name}"' in text, rule.name
        assert rule.formula and rule.advice and "\n" not in rule.advice
        assert set(rule.explains) <= {other.name for other in RULES}


def test_causes_come_before_what_they_explain_and_extra_rules_join():
    places = {rule.name: place for place, rule in enumerate(RULES)}
    for rule in RULES:
        assert all(places[rule.name] < places[name] for name in rule.explains)
    sign = Sign("warning", "a planted sign")
    extra = Rule(
        name="planted", formula="", advice="", check=lambda run: [sign], explains=("stalled loss",)
    )
    tree = write(healthy(), "training/loss", NOT_LEARNING)
    findings = check_health(tree, extra=[extra])
    assert [f.rule for f in findings] == ["planted", "stalled loss"]
    assert findings[1].message.endswith("(follows from: planted)")
