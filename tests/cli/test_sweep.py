import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gradscope.cli import main as cli
from gradscope.cli.record import read_config
from gradscope.cli.sweep import find_todo, read_outcome
from gradscope.experiments.engine import run_one
from gradscope.experiments.sweep import read_sweep

ROOT = Path(__file__).parents[2]
SPEC = """
seeds = 2
[base]
model = "plain"
units = 8
depth = 2
dataset = "synthetic"
n_classes = 2
samples_per_class = 20
batch_size = 8
steps = 3
[grid]
alpha = [-0.1, 0.5]
"""


@pytest.fixture
def command(tmp_path, monkeypatch, capfd):
    """Run the command in a folder of its own; returns exit code, stdout and stderr."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(cli, "COMMANDS", ("record", "sweep"))
    Path("spec.toml").write_text(SPEC)

    def run(*arguments):
        return cli.main(["sweep", "spec.toml", *arguments]), *capfd.readouterr()

    return run


def test_a_dry_run_shows_the_plan_and_writes_nothing(command):
    code, out, _ = command("--dry-run")
    assert code == 0
    assert "2 cells x 2 seeds, arm fixed, in runs/spec" in out
    assert "4 runs planned, 0 done, 4 to do" in out
    assert re.search(r"about \d+ kB and \d+ s on one worker", out)
    assert len(re.findall(r"runs/spec/alpha.*\.h5", out)) == 4
    assert not Path("runs").exists()


def test_printed_lines_are_the_planned_runs(command):
    _, out, _ = command("--print")
    planned = read_sweep(Path("spec.toml")).plan({})
    lines = out.splitlines()
    assert len(lines) == 4
    for line, run in zip(lines, planned, strict=True):
        words = shlex.split(line)
        assert words[:2] == ["gradscope", "record"]
        arguments = cli.build_parser().parse_args(words[1:])
        assert read_config(arguments) == run.config
        assert Path(arguments.out) == run.path
        assert arguments.overwrite


def test_only_finished_and_diverged_runs_count(command):
    sweep = read_sweep(Path("spec.toml"))
    first, second, third, fourth = sweep.plan({})
    assert run_one(first.config, first.path).status == "finished"
    diverging = second.config.replace(lr=1e6, steps=60)
    assert run_one(diverging, second.path).status == "diverged"
    third.path.write_bytes(b"half a file")
    assert read_outcome(first.path).metrics["val_accuracy"] >= 0
    assert [run.path for run in find_todo(sweep, {})] == [third.path, fourth.path]


def test_an_error_becomes_a_report(tmp_path):
    sweep = read_sweep(write(tmp_path, SPEC.replace('"synthetic"', '"folder"')))
    report = run_one(sweep.plan({})[0].config, tmp_path / "run.h5")
    assert report.status == "failed"
    assert "needs --data-dir" in report.message


def write(folder, text):
    path = folder / "spec.toml"
    path.write_text(text)
    return path


def start(folder, *words):
    return subprocess.Popen(
        [sys.executable, "-u", *words], cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def read_until(stream, pattern, n=1):
    for line in stream:
        n -= bool(re.search(pattern, line))
        if n == 0:
            return
    raise AssertionError(f"{pattern!r} did not come")


@pytest.mark.slow
def test_a_sweep_survives_the_death_of_a_worker_and_its_own(command, tmp_path):
    text = SPEC.replace("seeds = 2", "seeds = 10").replace("steps = 3", "steps = 10")
    spec = write(tmp_path, text)
    program = "from gradscope.cli import main; main.COMMANDS = ('sweep',); import sys; "
    program += f"sys.exit(main.main(['sweep', '{spec.name}', '--scheduler', sys.argv[1]]))"
    scheduler = start(
        tmp_path,
        *("-m", "distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", "0"),
        *("--no-dashboard", "--scheduler-file", "address.json"),
    )
    processes = [scheduler]
    try:
        wait_for(tmp_path / "address.json")
        address = json.loads((tmp_path / "address.json").read_text())["address"]
        workers = [
            start(tmp_path, "-m", "distributed.cli.dask_worker", address, "--nthreads", "1",
                  "--no-nanny", "--no-dashboard", "--local-directory", f"worker{index}")
            for index in range(2)
        ]  # fmt: skip
        processes += workers
        sweep = start(tmp_path, "-c", program, address)
        processes.append(sweep)
        read_until(sweep.stdout, ": finished", 3)
        workers[0].send_signal(signal.SIGKILL)
        read_until(sweep.stdout, ": finished", 3)
        sweep.send_signal(signal.SIGKILL)
        time.sleep(1)
        done = {path: path.stat().st_mtime_ns for path in (tmp_path / "runs/spec").glob("*.h5")}
        assert 6 <= len(done) < 20
        code, out, err = command("--scheduler", address)
        assert code == 0, err
        assert "20 runs in runs/spec, 0 failed" in out
        assert all(path.stat().st_mtime_ns == time_ns for path, time_ns in done.items())
    finally:
        for process in reversed(processes):
            process.kill()
            process.communicate()
    index = json.loads((tmp_path / "runs/spec/index.json").read_text())
    assert [run["status"] for run in index["runs"]] == ["finished"] * 20
    assert len(list((tmp_path / "runs/spec").glob("*.h5"))) == 20


def wait_for(path, seconds=60):
    deadline = time.monotonic() + seconds
    while not path.exists() or not path.read_text().endswith("}"):
        assert time.monotonic() < deadline, f"{path} did not come"
        time.sleep(0.1)
