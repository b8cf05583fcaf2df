import json
import os
import re
import signal
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch

from gradscope.cli import main as cli
from gradscope.cli.train import progress
from gradscope.experiments.config import Config
from gradscope.store.read.recording import open_recording

TINY = ["--width", "0.05", "--limit-train", "64", "--batch-size", "16", "--steps", "3"]
ROOT = Path(__file__).parents[3]


@pytest.fixture
def record(tmp_path, monkeypatch, capfd):
    """Run the command in a folder of its own; returns exit code, stdout and stderr."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(cli, "COMMANDS", {"record": "train"})

    def run(*arguments):
        try:
            code: object = cli.main(["record", *arguments])
        except SystemExit as stop:
            code = stop.code
        return code, *capfd.readouterr()

    return run


def refused(record, *arguments):
    """Run a command that must fail as a user's mistake; returns its one line."""
    code, out, err = record(*arguments)
    assert code == 2
    assert out == ""
    assert len(err.splitlines()) == 1
    assert not list(Path().rglob("*.h5*"))
    return err


def test_a_run_ends_in_a_table_and_the_next_command(record):
    code, out, err = record(*TINY, "--out", "a b/run.h5")
    assert code == 0
    for words in ("test accuracy", "test loss", "recording", "cost of recording"):
        assert words in out
    assert "gradscope plot 'a b/run.h5'" in out
    assert re.search(r"recording 3 steps will take about [\d.]+ kB and [\d.]+ s", err)
    assert re.search(r"epoch 1/1, step 3/3: loss .*, val accuracy .*images/s", err)
    assert open_recording("a b/run.h5").attrs["status"] == "finished"


def test_quiet_prints_nothing(record):
    assert record(*TINY, "--quiet", "--out", "run.h5") == (0, "", "")


def test_the_default_name_tells_what_ran(record):
    assert record(*TINY, "--seed", "7", "--alpha", "0.25")[0] == 0
    (path,) = Path("runs").iterdir()
    assert re.fullmatch(r"digits-vgg13-a0\.25-s7-\d{8}T\d{6}Z\.h5", path.name)


@pytest.mark.parametrize("text", ["50%", "0.5"])
def test_a_largest_cost_is_a_share_or_per_cent(record, text):
    assert record(*TINY, "--quiet", "--max-overhead", text, "--out", "run.h5")[0] == 0
    assert open_recording("run.h5").attrs["max_overhead"] == 0.5


def test_flags_override_the_file(record):
    Path("run.toml").write_text("alpha = 0.5\nseed = 3\nepochs = 4\nbetas = [0.8, 0.99]\n")
    assert record("--config", "run.toml", *TINY, "--alpha", "-0.2", "--out", "run.h5")[0] == 0
    config = json.loads(open_recording("run.h5").attrs["config_json"])
    assert (config["alpha"], config["seed"], config["betas"]) == (-0.2, 3, [0.8, 0.99])
    assert (config["steps"], config["epochs"]) == (3, None)


@pytest.mark.parametrize("flag", ["--alpha", "--gain"])
@pytest.mark.parametrize("text", ["-1e-3", "-1E-03", "-.5e-1", "-2.", "-5"])
def test_negative_numbers_are_values_however_they_are_written(flag, text):
    arguments = cli.build_parser().parse_args(["record", flag, text, "--seed", "4"])
    assert vars(arguments)["key_" + flag[2:]] == text
    assert arguments.key_seed == "4"


def test_a_scripts_own_negative_numbers_stay_its_own():
    parsed = cli.build_parser().parse_args(["record", "train.py", "--lr", "-1e-3", "-x"])
    assert parsed.script == ["train.py", "--lr", "-1e-3", "-x"]


def test_an_interrupted_run_is_resumed_by_its_recording_or_its_checkpoint(record, monkeypatch):
    steps = iter(range(100))
    monkeypatch.setattr(
        progress, "one_interrupt", lambda: nullcontext(lambda: next(steps) in (2, 4))
    )
    code, out, _ = record(*TINY, "--steps", "5", "--checkpoint-every", "10", "--out", "run.h5")
    assert code == 130
    assert "interrupted at step 2" in out
    assert "gradscope record --resume run.h5" in out
    code, out, _ = record("--resume", "run.h5.checkpoint", "--quiet")
    assert code == 130
    code, out, _ = record("--resume", "run.h5", "--seed", "0")
    assert code == 0
    assert "finished at step 5" in out
    training = open_recording("run.h5")["training"]
    assert training["step"].values.tolist() == [1, 2, 3, 4, 5]
    assert not Path("run.h5.checkpoint").exists()
    assert "no checkpoint run.h5.checkpoint" in record("--resume", "run.h5")[2]


def test_a_resumed_run_keeps_configuration_and_recording(record, monkeypatch):
    monkeypatch.setattr(progress, "one_interrupt", lambda: nullcontext(lambda: True))
    assert record(*TINY, "--checkpoint-every", "1", "--out", "run.h5")[0] == 130
    code, _, err = record("--resume", "run.h5", "--alpha", "-1e-3")
    assert code == 2
    assert "`alpha` is -0.1 in the checkpoint; got -0.001" in err
    assert "leave out --out" in record("--resume", "run.h5", "--out", "b.h5")[2]
    Path("run.h5").unlink()
    assert "the recording run.h5 that --resume would go on with" in record("--resume", "run.h5")[2]


def test_a_recording_can_be_run_again(record):
    assert record(*TINY, "--seed", "4", "--no-batch-norm", "--out", "first.h5")[0] == 0
    assert record("--config", "first.h5", "--out", "again.h5")[0] == 0
    first, again = open_recording("first.h5"), open_recording("again.h5")
    for group in ("gradients", "updates", "evaluation"):
        assert first[group].to_dataset().identical(again[group].to_dataset())


def test_an_existing_recording_is_kept_without_overwrite(record):
    Path("run.h5").write_bytes(b"precious")
    code, _, err = record(*TINY, "--out", "run.h5")
    assert code == 2
    assert "run.h5 exists; name another --out or give --overwrite" in err
    assert Path("run.h5").read_bytes() == b"precious"
    assert record(*TINY, "--out", "run.h5", "--overwrite")[0] == 0
    assert open_recording("run.h5").attrs["is_complete"] == 1


def test_a_failed_overwrite_leaves_the_old_recording(record):
    Path("run.h5").write_bytes(b"precious")
    code, _, _ = record(
        *TINY, "--out", "run.h5", "--overwrite", "--dataset", "folder", "--data-dir", "absent"
    )
    assert code == 2
    assert Path("run.h5").read_bytes() == b"precious"


def test_a_diverged_run_is_kept_with_a_warning(record):
    code, out, err = record(
        *TINY, "--steps", "40", "--lr", "1e6", "--no-batch-norm", "--out", "run.h5"
    )
    assert code == 0
    assert "diverged" in out
    assert re.search(r"warning: the loss was not finite at step \d+; the recording is kept", err)
    assert re.search(r"first non-finite gradient came at step \d+ in layer \S+", err)
    assert open_recording("run.h5").attrs["status"] == "diverged"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train.py"], "there is no script 'train.py'"),
        (["--quiet", "train.py", "--lr", "3", "--what"], "there is no script 'train.py'"),
        (["--", "train.py", "-h"], "there is no script 'train.py'"),
        (["--model", "vgg12"], "unknown model 'vgg12'; did you mean 'vgg1"),
        (["--dataset", "digit"], "unknown dataset 'digit'; did you mean 'digits'"),
        (["--lr", "nan"], "`lr` must be finite"),
        (["--lr", "fast"], "`lr` must be a number; got 'fast'"),
        (["--lr", "-0.1"], "`lr` must be finite and >= 0"),
        (["--alpha", "inf"], "`alpha` must be finite"),
        (["--betas", "0.9"], "`betas` must have 2 entries"),
        (["--batch-size", "0"], "`batch_size` must be"),
        (["--max-overhead", "lots"], "takes a share such as 2% or 0.02; got 'lots'"),
        (["--max-overhead", "2%", "--every", "5"], "leave out --every"),
        (["--every", "often"], "`every` must be a whole number or"),
        (["--epochs", "2", "--steps", "3"], "give `epochs` or `steps`, not both"),
        (["--limit-train", "5000"], "`limit_train` is 5000, but only"),
        (["--dataset", "folder"], "needs --data-dir"),
        (["--dataset", "folder", "--data-dir", "absent"], "no folder absent/train; looked for"),
        (["--dataset", "cifar10", "--data-dir", "absent"], "Fetch them with --download"),
        (["--config", "absent.toml"], "absent.toml"),
        (["--config", "absent.h5"], "absent.h5"),
        (["--out", "/dev/null/run.h5"], "cannot make the folder /dev/null"),
        (["--out", "."], "is a folder; name a file"),
        (["--checkpoint-every", "0"], "--checkpoint-every must be a whole number of at least 1"),
        (["--checkpoint-every", "often"], "of at least 1; got 'often'"),
        (["--resume", "absent.h5"], "no checkpoint absent.h5.checkpoint; runs with"),
        (["--resume", "a.h5", "train.py"], "are for the built-in experiment; a script keeps"),
    ],
)
def test_a_users_mistake_is_one_line_and_code_2(record, arguments, message):
    assert message in refused(record, *arguments)


def test_a_key_that_does_not_exist_is_named_with_its_file(record):
    Path("run.toml").write_text("alhpa = 0.5\n")
    line = refused(record, "--config", "run.toml")
    assert "run.toml: unknown configuration key 'alhpa'; did you mean 'alpha'" in line


def test_cuda_is_refused_where_there_is_none(record, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert "no CUDA device" in refused(record, "--device", "cuda")


def test_help_names_every_option(record):
    code, out, _ = record("--help")
    assert code == 0
    for name in Config.__dataclass_fields__:
        assert "--" + name.replace("_", "-") in out
    assert "[SCRIPT [ARGS ...] | -m MODULE [ARGS ...]]" in out


@pytest.fixture
def long_run(tmp_path):
    """A run in a process of its own that has begun to train and would take an hour."""
    program = (
        "import sys\nfrom gradscope.cli import main\nmain.COMMANDS = {'record': 'train'}\n"
        "sys.exit(main.main(sys.argv[1:]))"
    )
    options = [*TINY[:-2], "--steps", "100000", "--out", "run.h5"]
    with subprocess.Popen(
        [sys.executable, "-c", program, "record", *options],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert any(line.startswith("epoch") for line in process.stderr)
            yield process
        finally:
            process.kill()


def test_ctrl_c_closes_the_recording(tmp_path, long_run):
    long_run.send_signal(signal.SIGINT)
    out, err = long_run.communicate(timeout=60)
    assert long_run.returncode == 130
    assert "Ctrl-C again quits at once" in err
    assert "interrupted at step" in out
    recording = open_recording(tmp_path / "run.h5")
    assert (recording.attrs["status"], recording.attrs["is_complete"]) == ("interrupted", 1)


def test_a_second_ctrl_c_quits():
    program = (
        "import os, signal\n"
        "from gradscope.cli.train.progress import one_interrupt\n"
        "with one_interrupt() as was_pressed:\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "    assert was_pressed()\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "print('still here')"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, cwd=ROOT)
    assert result.returncode == -signal.SIGINT
    assert result.stdout == b""
