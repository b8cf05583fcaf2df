"""A killed run that is resumed is the run that was never killed, bit for bit.

A test starts this file as a program that imports torch once and forks into the runs to be killed.
"""

import hashlib
import io
import os
import signal
import subprocess
import sys
import traceback
from pathlib import Path

import numpy as np
import pytest
import torch

from gradscope.errors import RecordingError, RecordingExistsError, UsageError
from gradscope.experiments.config import Config
from gradscope.experiments.training.checkpoint import load_checkpoint
from gradscope.experiments.training.loop import Observers, train
from gradscope.store.read.recording import open_recording

ROOT = Path(__file__).parents[3]
TINY = {"dataset": "synthetic", "n_classes": 2, "samples_per_class": 20, "batch_size": 8}
CONFIGS = {
    # Batch norm's running statistics, augmentation, evaluation within and between checkpoints.
    "vgg": Config(
        **TINY,
        model="vgg13",
        width=0.05,
        steps=14,
        augment=True,
        lr_schedule="cosine",
        clip_grad_norm=1.0,
    ),
    # The loss scaler's state; dropout, which draws from torch's own random state.
    "dropout": Config(
        **TINY,
        model="torchvision.squeezenet1_1",
        steps=9,
        amp="fp16",
        every=2,
        augment=True,
    ),
    "plain": Config(**TINY, model="plain", units=8, depth=2, steps=40),
}
EVERY, KILLED_AT = 3, 8


def stop_at(step, act):
    """Observers that act when the loop asks after so many steps whether to stop."""
    asked = iter(range(10_000))
    return Observers(should_stop=lambda: next(asked) == step and bool(act()))


def train_and_die(config, path):
    die = stop_at(KILLED_AT, lambda: os.kill(os.getpid(), signal.SIGKILL))
    train(config, path, checkpoint_every=EVERY, observers=die)


def fork_into_killed_runs(folder):
    """Each configuration trains in a process of its own and is killed; all end so."""
    train(CONFIGS["plain"].replace(steps=1), folder / "warm.h5")  # loads what all would load
    children = {}
    for name, config in CONFIGS.items():
        children[name] = os.fork()
        if not children[name]:
            try:
                train_and_die(config, folder / f"{name}.h5")
            except BaseException:
                traceback.print_exc()
            os._exit(1)
    for name, pid in children.items():
        status = os.waitpid(pid, 0)[1]
        assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL, name


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("killed")
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(ROOT),
    }
    result = subprocess.run(
        [sys.executable, __file__, folder], capture_output=True, text=True, env=environment
    )
    assert result.returncode == 0, result.stderr
    return folder


def run(config, path, **options):
    """Train on one thread, as the killed run did; returns outcome, model and optimizer state."""
    built, n_threads = [], torch.get_num_threads()
    torch.set_num_threads(1)
    on_start = options.pop("on_start", built.append)
    outcome = train(config, path, observers=Observers(on_start=on_start), **options)
    torch.set_num_threads(n_threads)
    return outcome, built[0].model.state_dict(), built[0].optimizer.state_dict()["state"]


def assert_same_recording(first, second):
    groups = [str(node.path) for node in first.subtree if node.data_vars]
    assert groups == [str(node.path) for node in second.subtree if node.data_vars]
    for group in groups:
        times = [n for n in ("wall_time", "record_time") if n in first[group].data_vars]
        one, other = (tree[group].to_dataset().drop_vars(times).load() for tree in (first, second))
        assert one.identical(other), group


@pytest.mark.parametrize("name", CONFIGS)
def test_a_killed_run_goes_on_as_if_it_had_not_been(killed, tmp_path, name):
    path = killed / f"{name}.h5"
    checkpoint = load_checkpoint(path)
    assert checkpoint.step == 6
    assert checkpoint.every == EVERY
    resumed, weights, moments = run(checkpoint.config, path, resume=checkpoint)
    whole, whole_weights, whole_moments = run(CONFIGS[name], tmp_path / "whole.h5")
    assert all(torch.equal(weights[key], whole_weights[key]) for key in whole_weights)
    for index, state in whole_moments.items():
        assert all(torch.equal(moments[index][key], state[key]) for key in state)
    assert (resumed.step, resumed.metrics) == (whole.step, whole.metrics)
    assert_same_recording(open_recording(path), open_recording(tmp_path / "whole.h5"))
    assert not path.with_name(f"{path.name}.checkpoint").exists()
    assert not list(killed.glob(f"{path.name}.*"))


def test_an_interrupted_run_leaves_a_checkpoint_where_it_stood(tmp_path):
    config, path = CONFIGS["plain"], tmp_path / "run.h5"
    outcome = train(config, path, checkpoint_every=100, observers=stop_at(5, lambda: True))
    assert (outcome.status, outcome.step) == ("interrupted", 5)
    checkpoint = load_checkpoint(path)
    assert checkpoint.step == 5
    assert train(config, path, resume=checkpoint).status == "finished"
    steps = open_recording(path)["training"]["step"].values
    assert np.array_equal(steps, np.arange(1, 41))


def test_a_recording_that_is_being_written_is_not_resumed(tmp_path):
    config, path = CONFIGS["plain"], tmp_path / "run.h5"
    refused = []

    def resume_in_between():
        with pytest.raises(RecordingExistsError) as caught:
            train(config, path, resume=load_checkpoint(path))
        refused.append(caught.value)

    train(config, path, checkpoint_every=3, observers=stop_at(4, resume_in_between))
    assert len(refused) == 1


def test_a_checkpoint_of_another_configuration_is_refused(tmp_path):
    config, path = CONFIGS["plain"], tmp_path / "run.h5"
    train(config, path, checkpoint_every=3, observers=stop_at(4, lambda: True))
    checkpoint = load_checkpoint(path)
    with pytest.raises(UsageError, match=r"`lr` is 0.1 in the checkpoint; got 0.2"):
        train(config.replace(lr=0.2), path, resume=checkpoint)


def test_a_damaged_checkpoint_is_refused_and_nothing_in_it_is_run(tmp_path):
    path = tmp_path / "run.h5"
    train(CONFIGS["plain"], path, checkpoint_every=3, observers=stop_at(4, lambda: True))
    file = tmp_path / "run.h5.checkpoint"
    good = file.read_bytes()
    middle = len(good) // 2
    flipped = good[:middle] + bytes([good[middle] ^ 255]) + good[middle + 1 :]
    for damaged in (good[:-100], good[:middle], flipped):
        file.write_bytes(damaged)
        with pytest.raises(RecordingError, match=r"run.h5.checkpoint is damaged; start"):
            load_checkpoint(path)
    for other in (b"", b"another format", b"gradscope checkpoint 9" + good[22:]):
        file.write_bytes(other)
        with pytest.raises(RecordingError, match=r"run.h5.checkpoint is no checkpoint"):
            load_checkpoint(path)
    torch.save({"step": Touch(tmp_path / "was_run")}, buffer := io.BytesIO())
    body = buffer.getvalue()
    file.write_bytes(b"gradscope checkpoint 2\n" + hashlib.sha256(body).digest() + body)
    with pytest.raises(RecordingError, match="was not read"):
        load_checkpoint(path)
    assert not (tmp_path / "was_run").exists()


class Touch:
    """Makes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_a_checkpoint_that_cannot_be_written_leaves_the_old_one(tmp_path, monkeypatch):
    path = tmp_path / "run.h5"
    monkeypatch.setattr(os, "fsync", fail_for(".checkpoint.new", after=1))
    with pytest.raises(OSError, match="no space left"):
        train(CONFIGS["plain"], path, checkpoint_every=3)
    assert load_checkpoint(path).step == 3
    assert open_recording(path).attrs["status"] == "failed"


def fail_for(word, *, after):
    """An ``os.fsync`` that fails for files whose name has the word, after so many calls."""
    sync, calls = os.fsync, iter(range(10_000))

    def fsync(descriptor):
        if word in str(Path(f"/proc/self/fd/{descriptor}").readlink()) and next(calls) >= after:
            raise OSError("no space left")
        sync(descriptor)

    return fsync


def test_checkpoints_need_a_recording():
    with pytest.raises(UsageError, match="needs a recording to lie beside; got 3 for None"):
        train(CONFIGS["plain"], None, checkpoint_every=3)


def test_without_a_checkpoint_there_is_nothing_to_resume(tmp_path):
    with pytest.raises(UsageError, match=r"no checkpoint .*run.h5.checkpoint; runs with"):
        load_checkpoint(tmp_path / "run.h5")


if __name__ == "__main__":
    fork_into_killed_runs(Path(sys.argv[1]))
