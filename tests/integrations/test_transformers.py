"""The callback under the real Trainer, on a GPT-2 of two layers made from a configuration."""

from __future__ import annotations

import gc

import numpy as np
import pytest
import torch

import gradscope

transformers = pytest.importorskip("transformers", reason="transformers is not installed")
pytest.importorskip("accelerate", reason="accelerate is not installed")
pytestmark = pytest.mark.filterwarnings("ignore::Warning")


@pytest.fixture(scope="module", autouse=True)
def _few_objects_to_collect():
    """The Trainer collects garbage again and again: not what earlier tests have imported."""
    gc.collect()
    gc.freeze()


class Tokens(torch.utils.data.Dataset):
    def __init__(self):
        g = torch.Generator().manual_seed(2)
        self.tokens = torch.randint(0, 13, (24, 6), generator=g)

    def __len__(self):
        return len(self.tokens)

    def __getitem__(self, index):
        return {"input_ids": self.tokens[index], "labels": self.tokens[index]}


def trainer(tmp_path, callbacks, **options):
    transformers.set_seed(3)
    config = transformers.GPT2Config(
        vocab_size=13,
        n_positions=8,
        n_embd=8,
        n_layer=2,
        n_head=2,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
    )
    arguments = transformers.TrainingArguments(
        output_dir=str(tmp_path / "out"),
        per_device_train_batch_size=4,
        max_steps=4,
        logging_steps=1,
        report_to=[],
        save_strategy="no",
        use_cpu=True,
        disable_tqdm=True,
        dataloader_pin_memory=False,
        seed=3,
        learning_rate=1e-3,
        **options,
    )
    return transformers.Trainer(
        model=transformers.GPT2LMHeadModel(config),
        args=arguments,
        train_dataset=Tokens(),
        eval_dataset=Tokens(),
        callbacks=callbacks,
    )


@pytest.fixture
def callback(tmp_path):
    from gradscope.integrations.transformers import RecorderCallback

    return RecorderCallback(tmp_path / "run.h5")


@pytest.mark.parametrize("n_micro", [1, 2])
def test_every_step_is_recorded_and_no_weight_changed(tmp_path, callback, n_micro):
    options = {"gradient_accumulation_steps": n_micro, "eval_strategy": "steps", "eval_steps": 2}
    watched = trainer(tmp_path, [callback], **options)
    watched.train()
    bare = trainer(tmp_path, [], **options)
    bare.train()
    for a, b in zip(watched.model.parameters(), bare.model.parameters(), strict=True):
        assert torch.equal(a, b)
    tree = gradscope.open_recording(tmp_path / "run.h5").load()
    assert tree["training/step"].values.tolist() == [1, 2, 3, 4]
    logs = [log for log in watched.state.log_history if "loss" in log]
    told = {key: [log[key] for log in logs] for key in ("loss", "grad_norm", "learning_rate")}
    np.testing.assert_allclose(tree["training/loss"].values, told["loss"], rtol=1e-3)
    np.testing.assert_allclose(tree["training/total_grad_norm"], told["grad_norm"], rtol=1e-4)
    np.testing.assert_allclose(tree["training/lr"].values[1:, 0], told["learning_rate"][1:])
    assert tree["training/n_microbatches"].values.tolist() == [n_micro] * 4
    assert tree["evaluation"]["step"].values.tolist() == [2, 4]
    losses = [log["eval_loss"] for log in watched.state.log_history if "eval_loss" in log]
    np.testing.assert_allclose(tree["evaluation/eval_loss"].values, losses, rtol=1e-6)
    assert tree.attrs["model_name"] == "GPT2LMHeadModel" and tree.attrs["seed"] == 3
    assert "transformer.h.1.mlp.c_proj.weight" in tree["gradients"]["param"].values


@pytest.mark.parametrize("has_state", [True, False])
def test_a_training_goes_on_from_a_checkpoint_in_the_same_recording(tmp_path, has_state):
    from gradscope.integrations.transformers import STATE_NAME, RecorderCallback

    def part(n_steps, **options):
        callback = RecorderCallback(tmp_path / "run.h5", **options)
        made = trainer(tmp_path, [callback], save_steps=3, lr_scheduler_type="constant")
        made.args.max_steps, made.args.save_strategy = n_steps, "steps"
        return made

    part(3).train()
    checkpoint = tmp_path / "out" / "checkpoint-3"
    assert (checkpoint / STATE_NAME).is_file()
    if not has_state:  # saved by a training that was not recorded, or by an older gradscope
        (checkpoint / STATE_NAME).unlink()
    second = part(6, if_exists="resume")
    second.train(resume_from_checkpoint=str(checkpoint))
    tree = gradscope.open_recording(tmp_path / "run.h5").load()
    logged = {e["step"]: e["loss"] for e in second.state.log_history if "loss" in e}
    assert tree["training/step"].values.tolist() == list(logged) == [1, 2, 3, 4, 5, 6]
    np.testing.assert_allclose(tree["training/loss"].values, list(logged.values()), rtol=1e-3)


@pytest.mark.parametrize("n_before", [0, 2])
def test_a_trainer_that_begins_anew_with_a_smaller_batch(tmp_path, callback, n_before):
    """Memory runs out at a step; accelerate halves the batch and calls the loop once more."""
    n_calls = 0

    def run_out(module, args):
        nonlocal n_calls
        n_calls += 1
        if n_calls == n_before + 1:
            raise RuntimeError("CUDA out of memory.")

    watched = trainer(tmp_path, [callback], auto_find_batch_size=True)
    watched.model.transformer.register_forward_pre_hook(run_out)
    watched.train()
    paths = sorted(p.name for p in tmp_path.glob("*.h5"))
    assert paths == (["run-2.h5", "run.h5"] if n_before else ["run.h5"])
    steps = {p: gradscope.open_recording(tmp_path / p)["training"].sizes["step"] for p in paths}
    assert steps == ({"run.h5": 2, "run-2.h5": 4} if n_before else {"run.h5": 4})
    assert callback.recorder.path.name == paths[0]
