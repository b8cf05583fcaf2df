"""What ranks do in the tests of distributed training.

`launch` starts this file as a program that imports torch once and forks into the ranks; each
scenario writes what the test compares.
"""

from __future__ import annotations

import importlib
import json
import os
import socket
import subprocess
import sys
import time
import warnings
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.functional import cross_entropy
from torch.nn.parallel import DistributedDataParallel

import gradscope

N_STEPS = 5
BATCH = 8


class Transformer(nn.Module):
    """A block of attention and an MLP, with sizes that four ranks cannot share evenly."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Linear(6, 10)
        self.attention = nn.MultiheadAttention(10, 2, bias=False, batch_first=True)
        self.norm = nn.LayerNorm(10)
        self.mlp = nn.Sequential(nn.Linear(10, 14), nn.GELU(), nn.Linear(14, 10))
        self.head = nn.Linear(10, 3)

    def forward(self, x):
        h = self.embed(x)
        h = h + self.attention(h, h, h, need_weights=False)[0]
        return self.head((h + self.mlp(self.norm(h))).mean(dim=1))


def make(dtype=torch.float64):
    torch.manual_seed(0)
    model = Transformer().to(dtype)
    return model, lambda: torch.optim.AdamW(model.parameters(), lr=0.01)


def batch(k, n):
    g = torch.Generator().manual_seed(k)
    return torch.randn(n, 5, 6, generator=g), torch.randint(0, 3, (n,), generator=g)


def shard(k, size, rank):
    x, y = batch(k, BATCH * size)
    return x[rank * BATCH : (rank + 1) * BATCH], y[rank * BATCH : (rank + 1) * BATCH]


def train(model, optimizer, recorder, size, n_steps=N_STEPS, clip=None):
    for k in range(1, n_steps + 1):
        x, y = shard(k, size, dist.get_rank())
        optimizer.zero_grad()
        loss = cross_entropy(model(x.to(dtype_of(model))), y)
        loss.backward()
        if clip:
            nn.utils.clip_grad_norm_(model.parameters(), clip)
        optimizer.step()
        if recorder:
            recorder.log(loss=loss)


def dtype_of(model):
    return next(model.parameters()).dtype


def weights(model):
    return torch.cat([p.detach().flatten() for p in model.parameters()])


# -- scenarios, run on every rank -----------------------------------------------------------------


def ddp(folder, size):
    """DDP given as model, or the module inside; with clipping; and without any recorder."""
    ended = []
    for name in ("outer", "inner", "bare"):
        model, optimizer = make(torch.float64 if name == "outer" else torch.float32)
        optimizer = optimizer()
        parallel = DistributedDataParallel(model)
        recorder = None
        if name != "bare":
            watched = parallel if name == "outer" else model
            recorder = gradscope.Recorder(
                watched, optimizer, folder / f"{name}.h5", record="full", flight_recorder=0
            )
            assert recorder.path == folder / f"{name}.h5"
        train(parallel, optimizer, recorder, size, clip=0.1)
        if recorder:
            assert recorder.step == N_STEPS
            recorder.close()
        ended.append(weights(model))
    assert torch.equal(ended[1], ended[2])


def fsdp(folder, size):
    from torch.distributed.fsdp import fully_shard

    ended = []
    for is_recorded in (True, False):
        model, optimizer = make()
        fully_shard(model.mlp)
        fully_shard(model)
        optimizer = optimizer()
        recorder = None
        if is_recorded:
            recorder = gradscope.Recorder(
                model, optimizer, folder / "fsdp.h5", record="standard", histogram_every=1
            )
        train(model, optimizer, recorder, size, clip=0.1)
        if recorder:
            recorder.close()
        ended.append([p.detach().to_local() for p in model.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*ended, strict=True))


def cadence(folder, size):
    """Only rank 0 decides; a notebook-like look at the file happens on rank 0 only."""
    rank = dist.get_rank()
    model, optimizer = make()
    optimizer = optimizer()
    parallel = DistributedDataParallel(model)
    odd, never = (lambda k: k % 2 == 1), (lambda k: False)
    with gradscope.Recorder(
        parallel, optimizer, folder / "cadence.h5", every=never if rank else odd
    ) as recorder:
        train(parallel, optimizer, recorder, size, 4)
        if rank == 0:
            recorder.flush()
        train(parallel, optimizer, recorder, size, 3)


def exists(folder, size):
    (folder / "there.h5").write_bytes(b"") if dist.get_rank() == 0 else None
    dist.barrier()
    model, optimizer = make()
    with pytest.raises(FileExistsError, match=r"there\.h5"):
        gradscope.Recorder(model, optimizer(), folder / "there.h5")


def outlive(folder, size, last_rank):
    """Train without any collective of the user's own; the last rank does something else."""
    from gradscope.record.distributed import ranks

    ranks.TIMEOUT_SECONDS = 3.0
    rank = dist.get_rank()
    model, optimizer = make()
    optimizer = optimizer()
    train(model, optimizer, None, size, 1)
    dist.barrier()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        recorder = gradscope.Recorder(model, optimizer, folder / "run.h5", every=lambda k: True)
        train(model, optimizer, recorder, size, 6)
        if rank == size - 1:
            recorder = last_rank(recorder)
        train(model, optimizer, recorder, size, 20)
        if recorder:
            recorder.close()
    said = [str(w.message) for w in caught if "goes on alone" in str(w.message)]
    folder.mkdir(exist_ok=True)
    (folder / f"rank{rank}.json").write_text(json.dumps(said))


def die(folder, size):
    outlive(folder / "die", size, lambda recorder: os._exit(0))


def stall(folder, size):
    def late(recorder):
        time.sleep(5)
        return recorder

    outlive(folder / "stall", size, late)


def leave_early(folder, size):
    outlive(folder / "leave_early", size, lambda recorder: recorder.close("failed"))


def only_rank_0(folder, size):
    """A recorder made on one rank only does not hang the job."""
    from gradscope.record.distributed import ranks

    ranks.TIMEOUT_SECONDS = 1.0
    model, optimizer = make()
    optimizer = optimizer()
    if dist.get_rank() == 0:
        with pytest.warns(RuntimeWarning, match="did not come together"):
            recorder = gradscope.Recorder(model, optimizer, folder / "only_rank_0.h5")
        train(model, optimizer, recorder, size)
        recorder.close()
    dist.barrier()


# -- starting them --------------------------------------------------------------------------------


def worker(rank, size, port, folder, names):
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    dist.init_process_group("gloo", rank=rank, world_size=size)
    for name in names:
        globals()[name](Path(folder), size)
    if "die" not in names:
        dist.barrier()
        dist.destroy_process_group()


def preload():
    """Import and load what every rank needs, once, before it is forked."""
    for name in (
        "torch._dynamo",
        "torch.distributed.fsdp",
        "torch.distributed.tensor",
        "gradscope.record.measure.cpu.backend",
    ):
        importlib.import_module(name)


def start_ranks(size, folder, *names):
    """Fork into the ranks and wait for all; did every one end well?"""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    children = []
    for rank in range(size):
        pid = os.fork()
        if not pid:
            code = 1
            try:
                worker(rank, size, port, folder, names)
                code = 0
            except BaseException:
                import traceback

                traceback.print_exc()
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(code)
        children.append(pid)
    codes = [os.waitpid(pid, 0)[1] for pid in children]
    return not any(codes)


def main(groups):
    preload()
    warnings.simplefilter("error")
    torch.set_num_threads(1)
    sys.exit(not all(start_ranks(*group) for group in json.loads(groups)))


def launch(*groups):
    """Run groups of ranks one after the other: number of ranks, folder, names of scenarios."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, __file__, json.dumps([[n, str(f), *names] for n, f, *names in groups])],
        capture_output=True,
        text=True,
        timeout=240,
        env=environment,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


if __name__ == "__main__":
    main(*sys.argv[1:])
