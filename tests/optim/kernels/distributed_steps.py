"""Train one network in two processes with DDP and FSDP2 and compare with one process.

Started by test_distributed.py; every process writes its result to the given folder.
"""

import os
import sys
from datetime import timedelta

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.multiprocessing.spawn import spawn
from torch.nn.parallel import DistributedDataParallel

from gradscope.optim.shadow import ShadowMoments
from gradscope.optim.smes import SMES

CASES = (
    {"alpha": -0.2},
    {"alpha": 0.5},
    {"alpha": 0.1, "scope": "tensor", "weight_decay": 0.1},
    {"alpha": -0.2, "scope": "global", "graft": "profile"},
    {"alpha": -0.2, "graft": "tensor", "graft_from": "alpha"},
    {"alpha": -0.2, "foreach": False, "fused": False},
)
ALPHAS = (-0.3, 0.5)


def network():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(5, 7), torch.nn.Tanh(), torch.nn.Linear(7, 3))


def train(model, options, rows):
    optimizer = SMES(model.parameters(), lr=0.05, **options)
    shadow = ShadowMoments(optimizer, ALPHAS)
    for step in range(3):
        torch.manual_seed(step)
        batch = torch.randn(8, 5)[rows]
        optimizer.zero_grad()
        model(batch).square().mean().backward()
        optimizer.step()
    return optimizer, shadow.table()


def whole(model):
    return [p.full_tensor() if hasattr(p, "full_tensor") else p for p in model.parameters()]


def work(rank, folder):
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", f"file://{folder}/rendezvous", timedelta(seconds=60), world_size=2, rank=rank
    )
    rows = slice(4 * rank, 4 * rank + 4)
    mesh = init_device_mesh("cpu", (2,))
    for options in CASES:
        alone = network()
        _, expected = train(alone, options, slice(None))
        replicated = DistributedDataParallel(network())
        _, of_replicas = train(replicated, options, rows)
        sharded = network()
        fully_shard(sharded, mesh=mesh)
        optimizer, of_shards = train(sharded, options, rows)
        for model, table in ((replicated, of_replicas), (sharded, of_shards)):
            torch.testing.assert_close(
                [p.detach() for p in whole(model)],
                [p.detach() for p in alone.parameters()],
                rtol=1e-5,
                atol=1e-6,
            )
            torch.testing.assert_close(table.update_sq, expected.update_sq, rtol=1e-4, atol=0)
        state = optimizer.state[next(sharded.parameters())]
        assert state["exp_avg_sq"].placements == next(sharded.parameters()).placements
    dist.barrier()
    dist.destroy_process_group()
    os._exit(0)  # gloo's threads may abort the interpreter's own way out


if __name__ == "__main__":
    spawn(work, args=(sys.argv[1],), nprocs=2)
    print("equal")
