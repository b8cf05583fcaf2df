"""Parameters that are sharded over processes (DTensor, as FSDP2 makes them)."""

from __future__ import annotations

from collections import defaultdict

import torch
from torch import Tensor


def is_sharded(tensor: Tensor) -> bool:
    """Whether the tensor is a DTensor."""
    return hasattr(tensor, "to_local")


def local(tensors: list[Tensor], like: list[Tensor] | None = None) -> list[Tensor]:
    """Return this process's shards, sharing memory; plain tensors as they are.

    ``like`` gives the placements that the shards must have.
    """
    return [_shard(t, reference) for t, reference in zip(tensors, like or tensors, strict=True)]


def total(sums: Tensor, params: list[Tensor]) -> Tensor:
    """Add up, over the processes that share each parameter, what each found in its shard.

    Parameters
    ----------
    sums : Tensor, shape (n_param, n)
        Sums over the local shards.
    params : list of Tensor
        The parameters; one collective for each layout among them.
    """
    layouts = defaultdict(list)
    for index, param in enumerate(params):
        if is_sharded(param):
            layouts[(param.device_mesh, param.placements)].append(index)  # type: ignore[attr-defined]
    for (mesh, placements), rows in layouts.items():
        part = sums[rows]
        for dim, placement in enumerate(placements):
            if placement.is_shard():
                torch.distributed.all_reduce(part, group=mesh.get_group(dim))
        sums[rows] = part
    return sums


def _shard(tensor: Tensor, reference: Tensor) -> Tensor:
    if not is_sharded(tensor):
        return tensor
    if tensor.placements != reference.placements:  # type: ignore[attr-defined]
        tensor = tensor.redistribute(placements=reference.placements)  # type: ignore[attr-defined]
    shard: Tensor = tensor.to_local()  # type: ignore[attr-defined]
    return shard
