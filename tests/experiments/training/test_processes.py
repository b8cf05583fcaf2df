"""One run in two processes is the run in one, up to rounding, and goes on from its checkpoint.

A test starts this file under torchrun; rank 0 writes what is compared.
"""

import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist

from gradscope.errors import UsageError
from gradscope.experiments.config import Config
from gradscope.experiments.datasets.splits import Split
from gradscope.experiments.training.batches import Normalise, TrainingStream
from gradscope.experiments.training.checkpoint import load_checkpoint
from gradscope.experiments.training.loop import Observers, train
from gradscope.experiments.training.processes import ALONE, Processes, joined
from gradscope.store.read.recording import open_recording

ROOT = Path(__file__).parents[3]
TINY = {
    "dataset": "synthetic",
    "n_classes": 2,
    "samples_per_class": 40,
    "batch_size": 8,
    "model": "plain",
    "units": 8,
    "depth": 2,
    "steps": 6,
    "lr": 0.01,
}
CONFIGS = {
    # Without batch norm, whose statistics are those of a process's own examples.
    "plain": Config(**TINY, batch_norm=False, augment=True),
    "norm": Config(**TINY),
    # Batch norm, and dropout, which each process draws for itself.
    "dropout": Config(**TINY | {"model": "torchvision.mobilenet_v3_small"}, augment=True),
}
STOPPED_AT = 4


def train_all(folder, configs=CONFIGS, **options):
    for name, config in configs.items():
        built = []
        observers = Observers(on_start=built.append)
        outcome = train(config, folder / f"{name}.h5", observers=observers, **options)
        state = {"metrics": outcome.metrics, "weights": built[0].model.state_dict()}
        torch.save(state, folder / f"{name}-{os.environ.get('RANK', 'alone')}.pt")


def stop_and_resume(folder):
    """The last run once more, interrupted and resumed from its checkpoint."""
    path, asked = folder / "resumed.h5", iter(range(100))
    observers = Observers(should_stop=lambda: next(asked) == STOPPED_AT)
    outcome = train(CONFIGS["dropout"], path, checkpoint_every=3, observers=observers)
    assert (outcome.status, outcome.step) == ("interrupted", STOPPED_AT)
    dist.barrier()  # the first process has written
    train_all(folder, {"resumed": load_checkpoint(path).config}, resume=load_checkpoint(path))


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Folder of runs in two processes, and of the same in this one."""
    try:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            probe.listen()
    except OSError as error:
        pytest.skip(f"sockets on 127.0.0.1 are refused: {error}")
    folder = tmp_path_factory.mktemp("two")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--nproc-per-node",
        "2",
        "--rdzv-backend",
        "c10d",
        "--rdzv-endpoint",
        "127.0.0.1:0",
        "--local-addr",
        "127.0.0.1",
        __file__,
        folder,
    ]
    result = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120)
    assert result.returncode == 0, result.stderr[-3000:]
    alone = tmp_path_factory.mktemp("alone")
    train_all(alone, {name: CONFIGS[name] for name in ("plain", "norm")})
    return folder, alone


def load(folder, name, rank):
    return torch.load(folder / f"{name}-{rank}.pt", weights_only=True)


def test_two_processes_end_with_the_weights_of_one(runs):
    two, one = load(runs[0], "plain", 0), load(runs[1], "plain", "alone")
    torch.testing.assert_close(two["weights"], one["weights"], rtol=1e-3, atol=1e-5)
    assert two["metrics"] == pytest.approx(one["metrics"], rel=1e-3)


def test_the_recording_is_that_of_one_process(runs):
    two, one = (open_recording(folder / "plain.h5") for folder in runs)
    assert two.attrs["status"] == "finished"
    assert two.attrs["world_size"] == 2
    assert (two["training/batch_size"].values == 8).all()
    for name in (
        "training/loss",
        "gradients/grad_norm",
        "updates/update_norm",
        "activations/output_grad_rms",
        "evaluation/val_loss",
    ):
        assert two[name].dims == one[name].dims
        np.testing.assert_allclose(two[name].values, one[name].values, rtol=1e-3, atol=1e-6)


def test_both_processes_hold_one_model_and_one_evaluation(runs):
    first, second = (load(runs[0], "norm", rank) for rank in (0, 1))
    assert first["metrics"] == second["metrics"]
    assert all(torch.equal(first["weights"][k], t) for k, t in second["weights"].items())


def test_a_resumed_run_is_the_run_that_was_not_stopped(runs):
    folder = runs[0]
    for rank in (0, 1):
        whole, resumed = (load(folder, name, rank) for name in ("dropout", "resumed"))
        assert whole["metrics"] == resumed["metrics"]
        assert all(torch.equal(whole["weights"][k], t) for k, t in resumed["weights"].items())
    whole, resumed = (open_recording(folder / f"{name}.h5") for name in ("dropout", "resumed"))
    for group in (
        "training",
        "gradients",
        "second_moments",
        "updates",
        "activations",
        "evaluation",
    ):
        datasets = [tree[group].to_dataset() for tree in (whole, resumed)]
        times = {"wall_time", "record_time"} & set(datasets[0].data_vars)
        one, other = (dataset.drop_vars(times).load() for dataset in datasets)
        assert one.identical(other), group
    assert not (folder / "resumed.h5.checkpoint").exists()


def test_a_checkpoint_of_two_processes_is_not_resumed_in_one(tmp_path):
    config, path, asked = CONFIGS["plain"], tmp_path / "run.h5", iter(range(100))
    observers = Observers(should_stop=lambda: next(asked) == 2)
    train(config, path, checkpoint_every=1, observers=observers)
    checkpoint = load_checkpoint(path)
    checkpoint.states["random"] *= 2
    with pytest.raises(UsageError, match=r"of a run in 2 processes; got 1\. Resume it in as many"):
        train(config, path, resume=checkpoint)


def stream(processes, *, augment=True, batch_size=6):
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (20, 3, 8, 8), generator=generator, dtype=torch.uint8)
    split = Split(images, torch.arange(20))
    normalise = Normalise(torch.full((3,), 0.5), torch.full((3,), 0.25))
    return TrainingStream(
        split, normalise, batch_size=batch_size, augment=augment, seed=3, processes=processes
    )


@pytest.mark.parametrize("augment", [True, False])
def test_the_shares_make_up_the_batch_of_one_process(augment):
    shares = [stream(Processes(rank, 3), augment=augment) for rank in range(3)]
    whole = stream(ALONE, augment=augment)
    for _ in range(5):
        images, labels = next(whole)
        parts = [next(share) for share in shares]
        assert torch.equal(torch.cat([part[0] for part in parts]), images)
        assert torch.equal(torch.cat([part[1] for part in parts]), labels)


def test_a_batch_that_cannot_be_shared_is_refused():
    with pytest.raises(UsageError, match="batch of 6 cannot be shared evenly by 4 processes"):
        stream(Processes(0, 4))


if __name__ == "__main__":
    with joined("cpu"):  # torchrun's store serves one group a process: both runs share it
        train_all(Path(sys.argv[1]))
        stop_and_resume(Path(sys.argv[1]))
