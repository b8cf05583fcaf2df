"""``gradscope record SCRIPT``: scripts of the shapes that people publish, recorded as they are."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import gradscope
from gradscope.cli import main as cli
from tests.helpers import write_recording

ROOT = Path(__file__).parents[3]
SCRIPTS = Path(__file__).parent / "scripts"


@pytest.fixture
def record(tmp_path, monkeypatch, capfd):
    """Record a script inside this process; returns exit code, what was printed, and the trees."""
    monkeypatch.chdir(tmp_path)

    def run(script, *arguments, options=()):
        before = torch.autograd.backward, torch.optim.Optimizer.__init__, sys.argv, sys.path[:]
        words = [*options, "--out", "run.h5", str(SCRIPTS / script), *arguments]
        code = cli.main(["record", *words])
        out, err = capfd.readouterr()
        after = torch.autograd.backward, torch.optim.Optimizer.__init__, sys.argv, sys.path[:]
        assert after == before
        trees = [gradscope.open_recording(p).load() for p in sorted(tmp_path.glob("run*.h5"))]
        return code, out, err, trees

    return run


def losses_printed(out):
    return [float(word) for word in re.findall(r"^loss (\S+)", out, re.M)]


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # fork, Python 3.12
def test_a_script_at_module_level_with_workers_and_checkpoints(record, tmp_path):
    code, out, err, [tree] = record("images.py", "0.1", "net.pt")
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
            [*command, str(SCRIPTS / "images.py"), "0.1", name],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            check=True,
            capture_output=True,
        )
    watched, bare = (torch.load(tmp_path / name) for name in ("watched.pt", "bare.pt"))
    for name, value in bare["net"].items():
        assert torch.equal(value, watched["net"][name]), name


def test_a_net_that_is_traced_first(record):
    *_, [tree] = record("traced.py")
    assert tree["training/step"].values.tolist() == [1, 2, 3]
    assert tree["gradients"]["param"].values.tolist() == [
        "0.weight",
        "0.bias",
        "2.weight",
        "2.bias",
    ]
    assert "seed" not in tree.attrs or tree.attrs["seed"] != 0


def test_two_nets_with_an_optimizer_each(record):
    _, out, _, [tree] = record("gan.py")
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
    _, out, _, [tree] = record("gpt.py", *flags)
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
    _, out, _, [tree] = record("lbfgs.py")
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


@pytest.mark.parametrize("n_micro", [1, 3])
def test_lightning(record, n_micro):
    pytest.importorskip("lightning.pytorch", reason="lightning is not installed")
    _, out, _, [tree] = record("lit.py", str(n_micro))
    means = np.reshape(losses_printed(out), (-1, n_micro)).mean(1)
    np.testing.assert_allclose(tree["training/loss"].values, means, rtol=1e-6)
    assert tree.attrs["model_name"] == "Lit"
    assert tree["activations"]["layer"].values.tolist() == ["first", "last"]
    assert np.isfinite(tree["updates/update_norm"].values).all()
    assert np.isfinite(tree["activations/output_grad_rms"].values).all()


@pytest.mark.parametrize(("script", "n_examples"), [("hf.py", 4), ("accelerated.py", 8)])
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


def test_parts_that_are_called_alone_and_a_trained_criterion(record):
    *_, [tree] = record("parts.py")
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
    _, out, _, trees = record("folds.py", options=["--record", "light"])
    assert sorted(p.name for p in tmp_path.glob("*.h5")) == ["run-2.h5", "run-3.h5", "run.h5"]
    assert all(tree["training"].sizes["step"] == 110 for tree in trees)
    assert all("activations" not in tree.children for tree in trees)
    assert out.strip().endswith("alive [False, False, True]")


def test_children_are_left_alone(tmp_path):
    result = in_a_process(tmp_path, "--out", "run.h5", str(SCRIPTS / "children.py"))
    assert (result.returncode, result.stdout) == (0, "fork 0\nspawn 0\n")
    assert [p.name for p in tmp_path.iterdir()] == ["run.h5"]
    assert gradscope.open_recording(tmp_path / "run.h5")["training"].sizes["step"] == 2


@pytest.mark.parametrize(
    ("source", "why"),
    [
        ("import torch", "the script made no torch optimizer in this process"),
        (
            "import torch\nm = torch.nn.Linear(2, 2)\no = torch.optim.Adam(m.parameters())\n"
            "m(torch.ones(1, 2))",
            "1 optimizer was made but took no step that can be seen in this process",
        ),
    ],
)
def test_why_nothing_was_recorded_is_said(record, tmp_path, source, why):
    (tmp_path / "idle.py").write_text(source)
    code, _, err, trees = record(tmp_path / "idle.py")
    assert (code, trees) == (0, [])
    assert f"gradscope record: nothing was recorded: {why}" in err
    assert [p.name for p in tmp_path.iterdir()] == ["idle.py"]


def test_a_picture_that_is_optimised(record):
    *_, [tree] = record("image.py")
    assert tree["gradients"]["param"].values.tolist() == ["param_groups.0.0"]
    assert np.isfinite(tree["updates/update_norm"].values).all()


def test_a_script_that_records_itself(record, tmp_path):
    _, _, err, [tree] = record("own.py", "runs.h5")
    assert tree.attrs["status"] == "finished" and tree["training"].sizes["step"] == 2
    assert "the script attaches a recorder of its own" in err


def test_a_failure_of_ours_is_not_the_end_of_the_training(record, tmp_path):
    write_recording(tmp_path / "run-2.h5", n_steps=7)
    _, out, err, trees = record("folds.py", options=["--record", "light"])
    assert out.strip().endswith("alive [False, False, True]")
    assert "warning: RecordingExistsError" in err and "run-2.h5" in err
    assert [tree["training"].sizes["step"] for tree in trees] == [7, 110, 110]


def test_a_recording_that_cannot_be_finished_does_not_change_the_end(record, monkeypatch):
    close = gradscope.Recorder.close

    def fail(recorder, status):
        close(recorder, status)
        raise OSError("the disk is full")

    monkeypatch.setattr(gradscope.Recorder, "close", fail)
    code, out, err, _ = record("short.py")
    assert code == 5 and out == "done\n"
    assert "warning:" in err and "run.h5 was not finished: the disk is full" in err


def in_a_process(folder, *words, text=""):
    program = "import sys\nfrom gradscope.cli import main\nmain.COMMANDS = {'record': 'train'}\n"
    program += "sys.exit(main.main(sys.argv[1:]))"
    return subprocess.run(
        [sys.executable, "-c", program, "record", *words],
        cwd=folder,
        input=text,
        text=True,
        capture_output=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        timeout=120,
    )


def alone(folder, *words, text=""):
    return subprocess.run(
        [sys.executable, *words],
        cwd=folder,
        input=text,
        text=True,
        capture_output=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        timeout=120,
    )


@pytest.mark.parametrize("end", ["fine", "raise", "text", "code", "hook", "interrupt"])
def test_a_program_sees_and_ends_as_without_us(tmp_path, end):
    script = str(SCRIPTS / "manners.py")
    ours, theirs = (
        in_a_process(tmp_path, script, end, text="in"),
        alone(tmp_path, script, end, text="in"),
    )
    assert ours.stdout == theirs.stdout and '"torch": false' in ours.stdout
    told = ours.stderr.split("gradscope record: ")
    assert told[0] == theirs.stderr
    assert told[1].startswith("nothing was recorded: the script did not import torch")
    expected = 130 if end == "interrupt" else theirs.returncode
    assert ours.returncode == expected


def test_a_module_is_run_as_python_m_would(tmp_path):
    package = tmp_path / "package"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "train.py").write_text(
        "import json, sys\n"
        "print(json.dumps([sys.argv, sys.path[0], __name__, __spec__.name, __package__]))\n"
    )
    ours = in_a_process(tmp_path, "-m", "package.train", "--lr", "3")
    theirs = alone(tmp_path, "-m", "package.train", "--lr", "3")
    assert json.loads(ours.stdout) == json.loads(theirs.stdout)


def test_environment_that_a_script_sets_before_torch_counts(tmp_path):
    (tmp_path / "threads.py").write_text(
        "import os\nos.environ['OMP_NUM_THREADS'] = '1'\nimport torch\n"
        "print(torch.get_num_threads())\n"
    )
    result = in_a_process(tmp_path, "threads.py")
    assert result.stdout.strip() == "1"


def test_looking_for_torch_is_not_importing_it(tmp_path):
    result = in_a_process(tmp_path, "--out", "run.h5", str(SCRIPTS / "looking.py"))
    assert (result.returncode, result.stdout) == (0, "found False\nfound True\n")
    assert "run.h5" in result.stderr and "nothing was recorded" not in result.stderr
    assert gradscope.open_recording(tmp_path / "run.h5")["training"].sizes["step"] == 2


def test_ctrl_c_keeps_what_was_recorded(tmp_path):
    (tmp_path / "long.py").write_text(
        "import itertools, torch\n"
        "model = torch.nn.Linear(3, 2)\n"
        "optimizer = torch.optim.SGD(model.parameters(), lr=0.1)\n"
        "for k in itertools.count():\n"
        "    model(torch.ones(4, 3)).square().mean().backward()\n"
        "    optimizer.step()\n"
        "    if k == 5: print('going', flush=True)\n"
    )
    program = [sys.executable, "-m", "gradscope", "record", "--out", "run.h5", "long.py"]
    with subprocess.Popen(
        program,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # Tests started in the background ignore Ctrl-C, and so would their children.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    ) as process:
        try:
            assert process.stdout.readline() == "going\n"
            process.send_signal(signal.SIGINT)
            _, err = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 130
    assert "KeyboardInterrupt" in err and f"gradscope{os.sep}record" not in err
    assert gradscope.open_recording(tmp_path / "run.h5").attrs["status"] == "interrupted"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["absent.py"], "there is no script 'absent.py'"),
        (["-m", "absent_package.train"], "there is no module 'absent_package.train'"),
        (["--lr", "3", "train.py"], "--lr belongs to the built-in experiment and means nothing"),
        (["--config", "x.toml", "train.py"], "--config belongs to the built-in experiment"),
        (["--record", "ful", "train.py"], "unknown value of --record 'ful'; did you mean 'full'"),
        (["--every", "0", "train.py"], "`every` must be a whole number of at least 1, or auto"),
        (["--out", ".", "train.py"], "is a folder; name a file"),
        (["--record", "light"], "--record applies to a SCRIPT"),
    ],
)
def test_a_users_mistake_is_one_line_and_code_2(tmp_path, monkeypatch, capsys, words, message):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["record", *words]) == 2
    err = capsys.readouterr().err
    assert message in err and err.count("\n") == 1
