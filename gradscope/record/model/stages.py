"""Stages of a network: parts of one resolution, or the blocks of a transformer.

In an image network a stage ends where the number of positions drops. In a network of tokens it
never does; there every repeated block is a stage.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from torch import nn

from gradscope.record.model.modules import is_norm, is_weight_layer
from gradscope.record.model.wrappers import class_name

if TYPE_CHECKING:
    from gradscope.record.model.layers import Layer

_CONVOLUTIONS = (nn.modules.conv._ConvNd,)
_CHANNELS_SECOND = (nn.modules.batchnorm._NormBase, nn.GroupNorm)
_CHANNELS_LAST = (nn.Linear, nn.Bilinear, nn.Embedding, nn.EmbeddingBag)
_WITHOUT_POSITIONS = (
    nn.MultiheadAttention,
    nn.RNNBase,
    nn.Softmax,
    nn.Softmax2d,
    nn.LogSoftmax,
    nn.Softmin,
)
_CONTAINERS = (nn.ModuleList, nn.Sequential, nn.ModuleDict)


def set_stages(ordered: Sequence[Layer], models: Iterable[nn.Module]) -> None:
    """Number the stages of layers in execution order, from 0; -1 where a layer has none."""
    if _is_of_tokens(ordered):
        _count_blocks(ordered, _blocks(models))
    else:
        _count_drops([layer for layer in ordered if layer.shape is not None])


def _is_of_tokens(ordered: Sequence[Layer]) -> bool:
    """Whether most weight layers give (example, token, feature)."""
    seen = [layer for layer in ordered if layer.shape and is_weight_layer(layer.module)]
    n_tokens = sum(
        len(layer.shape or ()) == 3 and not isinstance(layer.module, _CONVOLUTIONS)
        for layer in seen
    )
    return 2 * n_tokens > len(seen)


def _count_blocks(ordered: Sequence[Layer], block_of: dict[int, int]) -> None:
    stage, before = 0, None
    for i, layer in enumerate(ordered):
        block = block_of.get(id(layer.module))
        if i and layer.order is not None:  # layers that never run stay with the one before
            stage += block != before
        if layer.order is not None:
            before = block
        layer.stage = stage


def _blocks(models: Iterable[nn.Module]) -> dict[int, int]:
    """Return for the id of each module the innermost repeated block around it, by a number."""
    found: dict[int, int] = {}
    spare: dict[int, int] = {}
    for model in models:
        for container in model.modules():
            if not isinstance(container, _CONTAINERS):
                continue
            kinds = Counter(class_name(child) for child in container.children())
            for child in container.children():
                inside = list(child.modules())
                if kinds[class_name(child)] < 2 or sum(map(is_weight_layer, inside)) < 2:
                    continue
                if any(map(is_norm, inside)):
                    found.update(dict.fromkeys(map(id, inside), id(child)))
                else:  # the experts of a block look like this too
                    spare |= {id(m): id(child) for m in inside if id(m) not in spare}
    return found or spare


def _count_drops(seen: Sequence[Layer]) -> None:
    positions = _positions(seen)
    stage, before = 0, None
    for i, layer in enumerate(seen):
        here = positions[i]
        is_squeezed = here == 1 and any((p or 1) > 1 for p in positions[i:])
        if here is not None and not is_squeezed:  # squeeze-and-excitation comes back at once
            stage += before is not None and here < before
            before = here
        layer.stage = stage


def _positions(seen: Sequence[Layer]) -> list[int | None]:
    """Count the positions of each output, height x width or length; None where it has none."""
    found: list[int | None] = []
    is_second: bool | None = None
    for layer in seen:
        module, shape = layer.module, layer.shape or ()
        if isinstance(module, _WITHOUT_POSITIONS):
            found.append(None)
            continue
        if isinstance(module, _CONVOLUTIONS):
            is_second = True
            found.append(math.prod(shape[-len(module.kernel_size) :]))
            continue
        if isinstance(module, _CHANNELS_SECOND):
            is_second = True
        elif isinstance(module, _CHANNELS_LAST):
            is_second = False
        elif is_norm(module):  # of either layout
            found.append(None)
            continue
        follows_second = len(shape) >= 4 if is_second is None else is_second
        found.append(math.prod(shape[2:] if follows_second else shape[1:-1]))
    return found
