"""Loops of the shapes that people publish, recorded as they are."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import numpy as np
import pytest
import torch

from tests.record.autolog.running import ROOT, SCRIPTS, losses_printed


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # fork, Python 3.12
def test_a_script_at_module_level_with_workers_and_checkpoints(record, tmp_path):
    code, out, err, [tree] = record("loops/images.py", "0.1", "net.pt")
    assert code == 0
    assert tree["training/step"].values.tolist() == [1, 2, 3, 4, 5, 6]
    assert tree["training/loss"].values.tolist() == pytest.approx(losses_printed(out), rel=1e-6)
    assert tree["training/lr"].values.ravel().tolist() == pytest.approx([0.1] * 3 + [0.05] * 3)
    # everything of the first step is there, in the order of execution
    assert tree["activations"]["layer"].values.tolist() == ["0", "1", "2", "4"]
    assert np.isfinite(tree["activations/output_grad_rms"].sel(step=1)).all()
    assert tree["gradients"]["kind"].values.tolist()[:2] == ["weight", "dead_bias"]
    assert tree["training/batch_size"].values.tolist() == [8] * 6
    assert tree.attrs["seed"] == 5 and tree.attrs["status"] == "finished"
    assert tree.attrs["command"] == "images.py 0.1 net.pt"
    assert re.search(
        r"run\.h5 \(.*\): 6 steps of Sequential, SGD\nnext: gradscope plot run\.h5", err
    )


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # fork, Python 3.12
def test_recording_changes_no_weight(tmp_path):
    python = [sys.executable]
    for name, command in {
        "bare.pt": python,
        "watched.pt": [*python, "-m", "gradscope", "record", "--out", "run.h5"],
    }.items():
        subprocess.run(
            [*command, str(SCRIPTS / "loops/images.py"), "0.1", name],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            check=True,
            capture_output=True,
        )
    watched, bare = (torch.load(tmp_path / name) for name in ("watched.pt", "bare.pt"))
    for name, value in bare["net"].items():
        assert torch.equal(value, watched["net"][name]), name


def test_a_net_that_is_traced_first(record):
    *_, [tree] = record("loops/traced.py")
    assert tree["training/step"].values.tolist() == [1, 2, 3]
    assert tree["gradients"]["param"].values.tolist() == [
        "0.weight",
        "0.bias",
        "2.weight",
        "2.bias",
    ]
    assert "seed" not in tree.attrs or tree.attrs["seed"] != 0


def test_two_nets_with_an_optimizer_each(record):
    _, out, _, [tree] = record("loops/gan.py")
    assert tree["training/loss"].values.tolist() == pytest.approx(losses_printed(out), rel=1e-6)
    assert tree.attrs["optimizer_names"].split() == ["optimizerD", "optimizerG"]
    norm = tree["gradients/grad_norm"]
    is_d = np.array([name.startswith("netD.") for name in norm["param"].values])
    is_g = np.array([name.startswith("netG.") for name in norm["param"].values])
    assert is_d.sum() == is_g.sum() == 4
    assert np.isfinite(norm.values[0][is_d]).all() and np.isfinite(norm.values[1][is_g]).all()
    assert tree["training/optimizer"].values.tolist() == [1, 2, 1, 2]  # a bit each


@pytest.mark.parametrize("flags", [(), ("--compile",)], ids=["eager", "compiled"])
def test_amp_accumulation_clipping_and_groups(record, flags):
    _, out, _, [tree] = record("loops/gpt.py", *flags)
    training = tree["training"]
    assert training["loss"].values.tolist() == pytest.approx(losses_printed(out), rel=1e-3)
    assert training["is_skipped"].values.tolist() == [0, 1, 0]
    assert training["loss_scale"].values.tolist() == [256, 256, 128]
    assert training.sizes["param_group"] == 2
    assert training["clip_coefficient"].values[1] == 0
    assert tree.attrs["model_name"] == "GPT"
    assert not any("_orig_mod" in name for name in tree["gradients"]["param"].values)
    if not flags:
        assert training["n_microbatches"].values.tolist() == [2, 2, 2]
        assert training["batch_size"].values.tolist() == [8, 8, 8]


def test_a_closure_is_whole_from_its_first_step(record):
    _, out, _, [tree] = record("loops/lbfgs.py")
    assert tree["training/loss"].values.tolist() == pytest.approx(losses_printed(out), rel=1e-6)
    assert tree["activations"]["layer"].values.tolist() == ["first", "last"]
    assert np.isfinite(tree["updates/update_norm"].values).all()
    # what the updates say is where the parameters went
    norms = tree["updates/param_norm"].sel(param="first.weight").values
    update = tree["updates"].sel(param="first.weight")
    expected = (
        norms[0] ** 2
        + 2 * (update["update_param_cosine"] * update["update_norm"] * norms)[0]
        + float(update["update_norm"][0]) ** 2
    )
    assert norms[1] ** 2 == pytest.approx(float(expected), rel=1e-6)


def test_parts_that_are_called_alone_and_a_trained_criterion(record):
    *_, [tree] = record("loops/parts.py")
    names = tree["gradients"]["param"].values.tolist()
    assert names == [
        "encoder.weight",
        "encoder.bias",
        "decoder.weight",
        "decoder.bias",
        "criterion.log_scale",
    ]
    assert np.isfinite(tree["gradients/grad_norm"].values).all()


def test_trainings_one_after_the_other_get_a_file_each_and_are_let_go(record, tmp_path):
    _, out, _, trees = record("loops/folds.py", options=["--record", "light"])
    assert sorted(p.name for p in tmp_path.glob("*.h5")) == ["run-2.h5", "run-3.h5", "run.h5"]
    assert all(tree["training"].sizes["step"] == 110 for tree in trees)
    assert all("activations" not in tree.children for tree in trees)
    assert out.strip().endswith("alive [False, False, True]")


def test_copies_are_trainings_of_their_own_with_their_first_loss(record):
    _, out, err, trees = record("programs/copied.py")
    losses = [loss for tree in trees for loss in tree["training/loss"].values.tolist()]
    assert sorted(losses) == pytest.approx(sorted(losses_printed(out)), rel=1e-6)
    assert len(trees) == 3 and "warning" not in err.lower()


@pytest.mark.filterwarnings("ignore:parameters change between|several optimizers step")
@pytest.mark.filterwarnings("ignore:after 1 recorded step, an optimizer that gradscope was not")
@pytest.mark.parametrize(("how", "n_files", "n_outer"), [("copy", 4, 6), ("in place", 3, 5)])
def test_inner_loops_do_not_fill_the_folder(record, how, n_files, n_outer):
    """The optimizer that goes on is recorded to the end, and only the first tasks beside it."""
    code, out, err, trees = record("programs/meta.py", how)
    assert code == 0 and len(trees) == n_files
    assert err.count("further ones are not recorded") == 1
    norms = [float(word) for word in re.findall(r"^norm (\S+)", out, re.M)]
    tree = max(trees, key=lambda tree: tree["training"].sizes["step"])
    norm = tree["gradients/grad_norm"]
    weights = norm.sel(param=[p for p in norm["param"].values if p.endswith("weight")]).values.T
    rows = max((w[np.isfinite(w)] for w in weights), key=len)
    assert len(rows) == n_outer and rows == pytest.approx(norms[-n_outer:], rel=1e-5)


def test_a_picture_that_is_optimised(record):
    *_, [tree] = record("loops/image.py")
    assert tree["gradients"]["param"].values.tolist() == ["param_groups.0.0"]
    assert np.isfinite(tree["updates/update_norm"].values).all()


@pytest.mark.parametrize("script", ["pgd", "sam"])
def test_passes_whose_gradient_is_thrown_away_do_not_count(record, script):
    code, out, _, [tree] = record(f"loops/{script}.py")
    assert code == 0
    assert tree["training/step"].values.tolist() == [1, 2, 3, 4]
    assert tree["training/loss"].values.tolist() == pytest.approx(losses_printed(out), rel=1e-6)
    assert tree["training/n_microbatches"].values.tolist() == [1] * 4
    assert tree["training/batch_size"].values.tolist() == [6] * 4


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.filterwarnings(r"ignore:The \.grad attribute of a Tensor")
@pytest.mark.parametrize("how", ["eager", "module", "loss_of", "backward", "step"])
def test_what_a_compiler_sees_is_whole_from_the_first_step(record, how):
    """Losses, gradients and activations are those of the eager script; nobody warns."""
    torch.compiler.reset()
    _, out, err, [tree] = record("seen/compiled.py", how)
    torch.compiler.reset()
    *_, [eager] = record("seen/compiled.py", "eager", options=["--overwrite"])
    assert "warning" not in err
    assert tree["training/loss"].values.tolist() == pytest.approx(losses_printed(out), rel=1e-6)
    assert tree["activations"]["layer"].values.tolist() == ["0", "1", "2"]
    for name in ("gradients/grad_norm", "updates/update_norm", "activations/output_grad_rms"):
        assert tree[name].shape[0] == 4
        np.testing.assert_allclose(tree[name].values, eager[name].values, rtol=2e-3)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_a_script_compiled_before_its_optimizer_was_made(record):
    torch.compiler.reset()
    with pytest.warns(RuntimeWarning, match="activations are missing: no pass was seen"):
        _, out, _, [tree] = record("seen/compiled.py", "before")
    assert tree["training/loss"].values.tolist() == pytest.approx(losses_printed(out), rel=1e-6)
    assert np.isfinite(tree["gradients/grad_norm"].values).all()


def test_a_loss_goes_to_the_training_that_its_backward_feeds(record):
    _, out, _, trees = record("seen/lockstep.py")
    printed = {"first": [], "second": []}
    halves = {}
    for words in map(str.split, out.splitlines()):
        if words[0] == "image":
            halves.setdefault(words[1], []).append(float(words[2]))
        else:
            printed[words[0]].append(float(words[1]))
    expected = [printed["second"], [sum(pair) for pair in halves.values()], printed["first"]]
    assert [len(losses) for losses in expected] == [4, 3, 5]
    for tree, losses in zip(trees, expected, strict=True):  # run-2.h5, run-3.h5, run.h5
        assert tree["training/loss"].values.tolist() == pytest.approx(losses, rel=1e-6)


@pytest.mark.parametrize("how", ["inputs", "zeroed", "raised", "inside"])
def test_a_backward_that_feeds_no_step_is_no_loss(record, how):
    _, out, _, [tree] = record("seen/attacks.py", how)
    assert tree["training/loss"].values.tolist() == pytest.approx(losses_printed(out), rel=1e-6)


def test_optimizers_that_cannot_be_compared(record):
    _, out, err, trees = record("seen/hostile.py")
    assert "warning" not in err
    losses = np.concatenate([tree["training/loss"].values for tree in reversed(trees)])
    assert losses.tolist() == pytest.approx(losses_printed(out), rel=1e-6)
    for tree in trees:
        assert np.isfinite(tree["gradients/grad_norm"].values).all()
