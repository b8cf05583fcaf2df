"""Tensors of any kind as ordinary dense ones, so that one set of formulas measures them all."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.parameter import is_lazy

from gradscope.errors import is_of_signal, warn

_said: set[str] = set()


def dense(tensor: Tensor) -> Tensor | None:
    """Return the numbers that a tensor holds on this process as a dense tensor.

    The part of a sharded tensor that lies here; sparse tensors with their zeros; the entries of a
    nested tensor in one row; a quantized tensor as what it stands for; a subclass as plain tensor.
    None, with one warning for each kind, where the numbers cannot be read.
    """
    if type(tensor) is Tensor and tensor.layout is torch.strided and not tensor.is_quantized:
        return None if tensor.is_meta else tensor
    try:
        return _converted(tensor.detach())
    except Exception as error:  # of a tensor class that nobody here has heard of
        if is_of_signal(error):
            raise
        _say(tensor, f"{type(error).__name__}: {error}")
        return None


def data_of(tensor: Tensor) -> Tensor:
    """Return `dense` of a tensor outside the graph; None where it cannot be read."""
    is_bare = type(tensor) is Tensor and not tensor.requires_grad
    return dense(tensor if is_bare else tensor.detach())  # type: ignore[return-value]


def early_copies(optimizer: torch.optim.Optimizer) -> dict[int, Tensor]:
    """Copy what an optimizer trains, by id, before there is a table of parameters."""
    params = [p for group in optimizer.param_groups for p in group["params"]]
    datas = {id(p): data_of(p) for p in params if not is_lazy(p)}
    return {key: data.clone() for key, data in datas.items() if data is not None}


def _converted(tensor: Tensor) -> Tensor | None:
    if tensor.is_nested:
        return torch.cat([part.reshape(-1) for part in tensor.unbind()])
    if hasattr(tensor, "to_local"):
        local: Tensor = tensor.to_local()
        return dense(local)
    is_wrapper = hasattr(tensor, "__tensor_flatten__")
    if tensor.is_quantized or (is_wrapper and hasattr(tensor, "dequantize")):
        tensor = tensor.dequantize()
    if tensor.layout is not torch.strided:
        tensor = tensor.to_dense()
    if type(tensor) is not Tensor and not hasattr(tensor, "__tensor_flatten__"):
        tensor = tensor.as_subclass(Tensor)
    if type(tensor) is not Tensor or tensor.is_meta:
        _say(tensor, "its numbers cannot be read")
        return None
    return tensor


def _say(tensor: Tensor, reason: str) -> None:
    kind = type(tensor).__name__
    if kind not in _said:
        _said.add(kind)
        warn(f"gradscope leaves out tensors of the kind {kind}: {reason}", stacklevel=5)
