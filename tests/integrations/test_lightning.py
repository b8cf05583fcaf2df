"""The callback under the real Lightning, on a net small enough to follow by hand."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset

import gradscope

lightning: Any = pytest.importorskip("lightning.pytorch", reason="lightning is not installed")
pytestmark = pytest.mark.filterwarnings("ignore::Warning")
logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)


class Lit(lightning.LightningModule):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.Linear(6, 5), nn.ReLU(inplace=True), nn.Linear(5, 3))
        self.losses, self.stop_at = [], None

    def training_step(self, batch, index):
        loss = cross_entropy(self.net(batch[0]), batch[1])
        self.losses.append(loss.item())
        if self.stop_at is not None and len(self.losses) == self.stop_at:
            raise ArithmeticError("of the loop")
        return loss

    def validation_step(self, batch, index):
        self.log("valid/loss", cross_entropy(self.net(batch[0]), batch[1]))

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=0.01)


def fit(tmp_path, module, callbacks, **options):
    g = torch.Generator().manual_seed(1)
    data = TensorDataset(torch.randn(24, 6, generator=g), torch.randint(0, 3, (24,), generator=g))
    trainer = lightning.Trainer(
        max_epochs=2,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=tmp_path,
        callbacks=callbacks,
        **options,
    )
    loader = DataLoader(data, batch_size=4)
    trainer.fit(module, loader, loader)


@pytest.fixture
def callback(tmp_path):
    from gradscope.integrations.lightning import RecorderCallback

    return RecorderCallback(tmp_path / "run.h5", record="standard")


def test_every_step_is_recorded_and_no_weight_changed(tmp_path, callback):
    watched, bare = Lit(), Lit()
    fit(tmp_path, watched, [callback])
    fit(tmp_path, bare, [])
    for a, b in zip(watched.parameters(), bare.parameters(), strict=True):
        assert torch.equal(a, b)
    tree = gradscope.open_recording(tmp_path / "run.h5").load()
    assert tree["training/step"].values.tolist() == list(range(1, 13))
    np.testing.assert_allclose(tree["training/loss"].values, watched.losses, rtol=1e-6)
    assert tree["evaluation"]["step"].values.tolist() == [6, 12]
    assert np.isfinite(tree["evaluation/val_loss"].values).all()
    assert tree.attrs["model_name"] == "Lit" and tree.attrs["status"] == "finished"
    assert np.isfinite(tree["updates/update_norm"].values).all()
    assert np.isfinite(tree["activations/output_grad_rms"].sel(step=1)).all()
    assert tree["gradients"]["param"].values.tolist()[0] == "net.0.weight"
    assert torch.autograd.backward.__module__ == "torch.autograd"
    assert not hasattr(torch.autograd.backward, "__wrapped__")


def test_accumulation_and_clipping(tmp_path, callback):
    module = Lit()
    fit(tmp_path, module, [callback], accumulate_grad_batches=3, gradient_clip_val=0.1)
    tree = gradscope.open_recording(tmp_path / "run.h5").load()
    means = np.reshape(module.losses, (-1, 3)).mean(1)
    np.testing.assert_allclose(tree["training/loss"].values, means, rtol=1e-6)
    clipped = np.sqrt((tree["gradients/grad_norm"] ** 2).sum("param").values)
    np.testing.assert_allclose(clipped, 0.1, rtol=1e-4)


def test_a_failed_fit_is_closed_as_failed(tmp_path, callback):
    module = Lit()
    module.stop_at = 4
    with pytest.raises(ArithmeticError):
        fit(tmp_path, module, [callback])
    tree = gradscope.open_recording(tmp_path / "run.h5")
    assert tree.attrs["status"] == "failed" and tree["training"].sizes["step"] == 3


def test_a_fit_goes_on_from_a_checkpoint_in_the_same_recording(tmp_path):
    from gradscope.integrations.lightning import RecorderCallback

    def part(module, epochs, **options):
        g = torch.Generator().manual_seed(1)
        data = TensorDataset(
            torch.randn(20, 6, generator=g), torch.randint(0, 3, (20,), generator=g)
        )
        callback = RecorderCallback(tmp_path / "run.h5", second_moment="own", **options)
        trainer = lightning.Trainer(
            max_epochs=epochs,
            accelerator="cpu",
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            callbacks=[callback],
        )
        return trainer, DataLoader(data, batch_size=4)

    class WithSGD(Lit):
        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=0.1)

    module = WithSGD()
    trainer, loader = part(module, 1)
    trainer.fit(module, loader)
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    trainer, loader = part(module, 2, if_exists="resume")
    trainer.fit(module, loader, ckpt_path=tmp_path / "last.ckpt")
    tree = gradscope.open_recording(tmp_path / "run.h5").load()
    assert tree["training/step"].values.tolist() == list(range(1, 11))
    np.testing.assert_allclose(tree["training/loss"].values, module.losses, rtol=1e-6)
    # the recorder's own second moments went on too
    assert tree["second_moments/state_step"].values[:, 0].tolist() == list(range(1, 11))
