"""Scripts that train with Lightning, transformers or Accelerate."""

from __future__ import annotations

import numpy as np
import pytest

from tests.record.autolog.running import losses_printed


@pytest.mark.parametrize("n_micro", [1, 3])
def test_lightning(record, n_micro):
    pytest.importorskip("lightning.pytorch", reason="lightning is not installed")
    _, out, _, [tree] = record("frameworks/lit.py", str(n_micro))
    means = np.reshape(losses_printed(out), (-1, n_micro)).mean(1)
    np.testing.assert_allclose(tree["training/loss"].values, means, rtol=1e-6)
    assert tree.attrs["model_name"] == "Lit"
    assert tree["activations"]["layer"].values.tolist() == ["first", "last"]
    assert np.isfinite(tree["updates/update_norm"].values).all()
    assert np.isfinite(tree["activations/output_grad_rms"].values).all()


@pytest.mark.parametrize(
    ("script", "n_examples"), [("frameworks/hf.py", 4), ("frameworks/accelerated.py", 8)]
)
def test_trainer_and_accelerate(record, script, n_examples):
    pytest.importorskip("transformers", reason="transformers is not installed")
    pytest.importorskip("accelerate", reason="accelerate is not installed")
    _, out, _, [tree] = record(script)
    training = tree["training"]
    assert training["n_microbatches"].values.tolist() == [2] * training.sizes["step"]
    assert training["batch_size"].values.tolist() == [n_examples] * training.sizes["step"]
    np.testing.assert_allclose(training["loss"].values, losses_printed(out), rtol=1e-4)
    assert tree.attrs["model_name"] in ("GPT2LMHeadModel", "Sequential")
    assert tree.attrs["optimizer_name"] == "AdamW"
    assert np.isfinite(training["clip_coefficient"].values).all()
