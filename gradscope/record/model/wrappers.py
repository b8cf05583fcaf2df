"""Module wrappers that leave no trace in names: DDP, FSDP, ``torch.compile``, Fabric.

A wrapper is known by its class. A submodule that a user calls ``module`` keeps its name.
"""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn

_CHILDREN = {
    "torch._dynamo.eval_frame.OptimizedModule": {"_orig_mod"},
    "torch.nn.parallel.data_parallel.DataParallel": {"module"},
    "torch.nn.parallel.distributed.DistributedDataParallel": {"module"},
    "torch.distributed.fsdp.fully_sharded_data_parallel.FullyShardedDataParallel": {
        "_fsdp_wrapped_module"
    },
    "torch.distributed.algorithms._checkpoint.checkpoint_wrapper.ActivationWrapper": {
        "_checkpoint_wrapped_module"
    },
    "lightning.fabric.wrappers._FabricModule": {"_forward_module", "_original_module"},
    "lightning_fabric.wrappers._FabricModule": {"_forward_module", "_original_module"},
    "deepspeed.runtime.engine.DeepSpeedEngine": {"module"},
    "apex.parallel.distributed.DistributedDataParallel": {"module"},
    "fairscale.nn.data_parallel.sharded_ddp.ShardedDataParallel": {"module"},
    "opacus.grad_sample.gsm_base.AbstractGradSampleModule": {"_module"},
}
"""Class of a wrapper to the names of the children that stand for what it wraps."""


def wrapped_children(module: nn.Module) -> set[str]:
    """Return the children of a wrapper that stand for what it wraps; none for other modules."""
    for cls in type(module).__mro__:
        names = _CHILDREN.get(f"{cls.__module__}.{cls.__qualname__}")
        if names is not None:
            return names
    return set()


def unwrap_module(module: nn.Module) -> nn.Module:
    """Return the model inside DDP, ``torch.compile`` and their like.

    >>> type(unwrap_module(nn.DataParallel(nn.Linear(2, 2)))).__name__
    'Linear'
    """
    for name in wrapped_children(module):
        inner = module._modules.get(name)
        if inner is not None:
            return unwrap_module(inner)
    return module


def class_name(module: nn.Module) -> str:
    """Name a module's class as its author did, whatever DDP, FSDP or a compiler made of it."""
    bases = type(unwrap_module(module)).__mro__
    is_fsdp2 = len(bases) > 2 and bases[1].__name__ == "FSDPModule"  # it puts a class in front
    return bases[2].__name__ if is_fsdp2 else bases[0].__name__


def named_modules(module: nn.Module, prefix: str = "") -> Iterator[tuple[str, nn.Module]]:
    """Iterate over a module and all inside it, each as often as it is registered.

    Names are those of ``named_modules`` of the model without its wrappers.

    >>> net = nn.DataParallel(nn.Sequential(nn.ReLU()))
    >>> [name for name, _ in named_modules(net)]
    ['', '', '0']
    """
    yield from _walk(module, prefix, ())


def parameters_of(module: nn.Module) -> Iterator[nn.Parameter]:
    """Iterate over all parameters inside a module, each as often as it is registered.

    A class may make of ``parameters()`` what it likes, groups for an optimizer for one.
    """
    for _, inner in named_modules(module):
        yield from (p for p in inner._parameters.values() if p is not None)


def _walk(
    module: nn.Module, name: str, above: tuple[nn.Module, ...]
) -> Iterator[tuple[str, nn.Module]]:
    if any(module is other for other in above):  # a module may hold its parent
        return
    yield name, module
    hidden = wrapped_children(module)
    for key, child in module._modules.items():
        if child is not None:
            inner = name if key in hidden else f"{name}.{key}" if name else key
            yield from _walk(child, inner, (*above, module))
