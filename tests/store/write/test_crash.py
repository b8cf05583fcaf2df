"""kill -9 at random moments: what was flushed is there, every value of it.

``GRADSCOPE_KILLS=200`` runs the long form.
"""

import os
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from gradscope.store.format.segments import part_folder
from gradscope.store.maintain.repair import repair
from gradscope.store.maintain.validate import violations
from gradscope.store.read.recording import open_recording

N_KILLS = int(os.environ.get("GRADSCOPE_KILLS", "16"))
ROOT = Path(__file__).parents[3]
pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork and kill -9")

# Imports once, then forks a writer for each line "path delay n_flushes" and kills it after the
# delay. The writer notes in a log, unbuffered, what it was told is on disk.
PROGRAM = """
import os, signal, sys, time
import numpy as np
from gradscope.store.write import merge
from gradscope.store.write.writer import RecordingWriter

def write(path, n_flushes):
    log = os.open(path + ".log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    writer = RecordingWriter(path, {"seed": 1}, flush_seconds=0.01)
    writer.set_axis("param", {"param": [f"p{i}" for i in range(6)], "numel": [9] * 6})
    step = 0
    for _ in range(n_flushes):
        for _ in range(7):
            step += 1
            steps = np.array([step])
            norms = step * 10.0 + np.arange(6)[None]
            writer.append("gradients", {"step": steps, "grad_norm": norms})
            writer.append("training", {"step": steps, "loss": steps / 8})
        writer.flush(wait=True)
        os.write(log, b"%d\\n" % step)
    writer.close()
    os.write(log, b"closed\\n")

for line in sys.stdin:
    path, delay, n_flushes = line.split()
    child = os.fork()
    if not child:
        try:
            write(path, int(n_flushes))
        finally:
            os._exit(0)
    time.sleep(float(delay))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    print("killed", flush=True)
"""


@pytest.fixture(scope="module")
def killer():
    """Start writers and kill them: ``killer(path, delay, n_flushes)``."""
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    ) as process:

        def kill(path, delay, n_flushes):
            process.stdin.write(f"{path} {delay} {n_flushes}\n")
            process.stdin.flush()
            assert process.stdout.readline() == "killed\n"

        yield kill
        process.stdin.close()


def flushed(path):
    """The last step that the writer was told is on disk, and whether it had closed."""
    log = Path(f"{path}.log")
    lines = log.read_text().split() if log.exists() else []
    steps = [int(line) for line in lines if line.isdecimal()]
    return max(steps, default=0), "closed" in lines


def check(path, n_flushed):
    tree = open_recording(path)
    rows = tree["gradients"]["step"].values
    assert len(rows) >= n_flushed
    np.testing.assert_array_equal(rows, np.arange(1, len(rows) + 1))
    expected = rows[:, None] * 10.0 + np.arange(6)
    np.testing.assert_array_equal(tree["gradients"]["grad_norm"].values, expected)
    training = tree["training"]
    np.testing.assert_array_equal(training["loss"].values, training["step"].values / 8)
    assert len(training["step"]) >= n_flushed
    tree.close()
    return len(rows)


@pytest.mark.parametrize("seed", range(N_KILLS))
def test_kill_at_a_random_moment(killer, tmp_path, seed):
    rng = random.Random(seed)
    # Up to 60 flushes of some milliseconds each, merges at every 8th, and the final merge.
    path = tmp_path / "run.h5"
    killer(path, rng.uniform(0.0, 0.5), rng.choice([3, 9, 60]))
    n_flushed, is_closed = flushed(path)
    assert path.exists() or not is_closed
    if not path.exists() and not n_flushed:
        return
    n_rows = check(path, n_flushed)
    assert violations(path) == []
    if not path.exists():
        assert repair(path).n_rows["gradients"] == n_rows
        assert part_folder(path).exists()
        assert check(path, n_flushed) == n_rows
        assert violations(path) == []


@pytest.mark.parametrize("moment", ["merge", "finish", "remove"])
def test_kill_in_the_middle_of_a_merge(tmp_path, moment):
    """Die where the merged file is half written, just renamed, and its sources half removed."""
    at = {
        "merge": "merge._write_group = lambda *a: os.kill(os.getpid(), signal.SIGKILL)",
        "finish": "segments.sync_folder = lambda folder: die_if(folder == part.parent)",
        "remove": "pathlib.Path.unlink = lambda self, **k: die_at_third(self)",
    }[moment]
    # No flush but those asked for, so that it is known which one merges.
    unhurried = PROGRAM.replace("flush_seconds=0.01", "flush_seconds=60")
    program = unhurried.partition("for line in sys.stdin")[0] + (
        "import pathlib\n"
        "from gradscope.store.format import segments\n"
        f"part = pathlib.Path({str(tmp_path / 'run.h5.part')!r})\n"
        "unlinked = []\n"
        "def die_if(condition):\n"
        "    if condition and segments.list_segments(part): os.kill(os.getpid(), signal.SIGKILL)\n"
        "unlink = pathlib.Path.unlink\n"
        "def die_at_third(path):\n"
        "    unlinked.append(path); die_if(len(unlinked) > 2); unlink(path)\n"
        f"{at}\n"
        f"write({str(tmp_path / 'run.h5')!r}, {8 if moment == 'merge' else 5})\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, timeout=60)
    assert done.returncode == -9
    n_rows = check(tmp_path / "run.h5", flushed(tmp_path / "run.h5")[0])
    assert n_rows == (56 if moment == "merge" else 35)
