import contextlib
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
from gradscope.cli.train.record import read_config
from gradscope.experiments.sweep import engine
from gradscope.experiments.sweep.engine import run_one
from gradscope.experiments.sweep.grid import read_sweep
from gradscope.experiments.sweep.state import find_todo, read_outcome
from gradscope.experiments.training.loop import train
from tests.helpers import SWEEP_SPEC

ROOT = Path(__file__).parents[3]


@pytest.fixture
def command(tmp_path, monkeypatch, capfd):
    """Run the command in a folder of its own; returns exit code, stdout and stderr."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(cli, "COMMANDS", {"record": "train", "sweep": "train"})
    Path("spec.toml").write_text(SWEEP_SPEC)

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
    sweep = read_sweep(write(tmp_path, SWEEP_SPEC.replace('"synthetic"', '"folder"')))
    report = run_one(sweep.plan({})[0].config, tmp_path / "run.h5")
    assert report.status == "failed"
    assert "needs --data-dir" in report.message


def write(folder, text):
    path = folder / "spec.toml"
    path.write_text(text)
    return path


@pytest.fixture
def cluster(tmp_path):
    """Scheduler, two workers and a sweep of 20 runs, each a process; their ids by name."""
    text = SWEEP_SPEC.replace("seeds = 2", "seeds = 10").replace("steps = 3", "steps = 10")
    write(tmp_path, text)
    parent = subprocess.Popen(
        [sys.executable, __file__],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
    )
    pids = json.loads(parent.stdout.readline())
    try:
        yield pids
    finally:
        for pid in reversed(pids.values()):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        parent.communicate()


def fork_into_cluster():
    """Import everything once, then become the processes of a cluster and of its sweep."""
    from distributed.cli.dask_scheduler import main as scheduler
    from distributed.cli.dask_worker import main as worker

    (first, *_) = read_sweep(Path("spec.toml")).plan({})
    run_one(first.config, Path("warm.h5"))
    vars(engine)["train"] = train_until_half
    here, file = ["--no-dashboard"], ["--scheduler-file", "address.json"]
    own = ["--nthreads", "1", "--no-nanny", "--host", "127.0.0.1", "--local-directory"]
    parts = {
        "scheduler": lambda: scheduler([*here, *file, "--host", "127.0.0.1", "--port", "0"]),
        "worker0": lambda: worker([*here, *file, *own, "worker0"]),
        "worker1": lambda: worker([*here, *file, *own, "worker1"]),
        "sweep": lambda: cli.main(["sweep", "spec.toml", "--scheduler", read_address()]),
    }
    pids = {name: os.fork() or become(name, part) for name, part in parts.items()}
    print(json.dumps(pids), flush=True)
    for pid in pids.values():
        os.waitpid(pid, 0)


def train_until_half(config, path, **options):
    """Train in half the runs; the others wait for the sweep's death, and fail."""
    is_late = len(list(path.parent.glob("*.h5"))) >= 10 and not Path("dead").exists()
    while is_late and not Path("dead").exists():
        time.sleep(0.05)
    if is_late:
        raise InterruptedError
    return train(config, path, **options)


def become(name, part):
    """Do one part in this forked process, its output in a file; does not return."""
    try:
        out = os.open(f"{name}.out", os.O_CREAT | os.O_WRONLY)
        os.dup2(out, 1)
        os.dup2(out, 2)
        part()
    finally:
        os._exit(1)


def read_address():
    """Address of the scheduler, once it has written it."""
    texts = repeatedly(lambda: Path("address.json").read_text())
    return json.loads(next(text for text in texts if text.endswith("}")))["address"]


def repeatedly(read, seconds=60):
    """What a file says again and again, once it is there."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with contextlib.suppress(FileNotFoundError):
            yield read()
        time.sleep(0.05)
    raise AssertionError(f"what was waited for did not come in {seconds} s")


def wait_for_finished(n):
    texts = repeatedly(lambda: Path("sweep.out").read_text())
    next(text for text in texts if text.count(": finished") >= n)


@pytest.mark.slow
def test_a_sweep_survives_the_death_of_a_worker_and_its_own(command, cluster):
    wait_for_finished(3)
    os.kill(cluster["worker0"], signal.SIGKILL)
    wait_for_finished(6)
    os.kill(cluster["sweep"], signal.SIGKILL)
    Path("dead").touch()
    time.sleep(1)
    done = {path: path.stat().st_mtime_ns for path in Path("runs/spec").glob("*.h5")}
    assert 6 <= len(done) <= 11
    code, out, err = command("--scheduler", read_address())
    assert code == 0, err
    assert "20 runs in runs/spec, 0 failed" in out
    assert all(path.stat().st_mtime_ns == time_ns for path, time_ns in done.items())
    index = json.loads(Path("runs/spec/index.json").read_text())
    assert [run["status"] for run in index["runs"]] == ["finished"] * 20
    assert len(list(Path("runs/spec").glob("*.h5"))) == 20


if __name__ == "__main__":
    fork_into_cluster()
