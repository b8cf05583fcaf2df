"""Signs of a wrong exponent are found where they were planted, as notes, in runs with SMES only."""

from __future__ import annotations

import numpy as np
import xarray as xr

from analyses.health.exponent_range import RULES
from gradscope.derived.health.check import check_health
from tests.derived.health.health_trees import healthy, write


def notes(tree):
    findings = check_health(tree, extra=RULES)
    return {f.rule: f for f in findings if f.severity == "note"}


def test_signs_of_the_theory_are_notes_and_of_smes_only():
    up, flat = np.linspace(2.3, 9.0, 120), 2.3 - np.minimum(np.arange(120), 40) * 0.01
    diverging = write(healthy(optimizer_name="SMES"), "training/loss", up)
    diverging = write(diverging, "training/alpha", 0.3)
    sign = notes(diverging)["loss diverges at positive alpha"]
    assert sign.message.startswith("at alpha 0.3 ") and "2405.18498" in sign.advice
    stalling = write(healthy(optimizer_name="SMES"), "training/loss", flat)
    assert "loss stalls early at negative alpha" in notes(stalling)
    for tree in (write(healthy(), "training/loss", flat), healthy(optimizer_name="SMES")):
        assert notes(tree) == {}


def test_generalisation_gap():
    tree = healthy(optimizer_name="SMES")
    rows = {"train_accuracy": ("step", [0.1, 0.99]), "val_accuracy": ("step", [0.1, 0.7])}
    tree["evaluation"] = xr.DataTree(xr.Dataset(rows, {"step": [0, 120]}))
    assert "99.0%" in notes(tree)["large generalisation gap"].message


def test_the_package_alone_knows_nothing_of_exponents():
    up = write(healthy(optimizer_name="SMES"), "training/loss", np.linspace(2.3, 9.0, 120))
    up = write(up, "training/alpha", 0.3)
    assert {f.rule for f in check_health(up)} == {"diverged loss"}
