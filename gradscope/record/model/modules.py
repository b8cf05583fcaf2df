"""What is a layer, a norm, a weight layer; the role of a parameter in it."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.utils.hooks import unserializable_hook

from gradscope.record.model.wrappers import parameters_of

Args = tuple[Any, ...]
Kwargs = dict[str, Any]

_WEIGHT_LAYERS = (
    nn.modules.conv._ConvNd,
    nn.Linear,
    nn.Bilinear,
    nn.Embedding,
    nn.EmbeddingBag,
    nn.MultiheadAttention,
    nn.RNNBase,
    nn.RNNCellBase,
)
BATCH_NORMS = (nn.modules.batchnorm._NormBase,)
_NORMS = (*BATCH_NORMS, nn.LayerNorm, nn.GroupNorm, nn.LocalResponseNorm)
_EMBEDDINGS = (nn.Embedding, nn.EmbeddingBag)
_PARAMETRIZATIONS = "parametrizations"
MAX_OUTPUTS = 8
"""Tensors of a model's output that are watched for the gradient that comes back."""


def first_tensor(value: object) -> Tensor | None:
    """Find the first tensor of real or complex numbers in a tensor, tuple, dict or dataclass."""
    if isinstance(value, Tensor):
        is_number = value.is_floating_point() or value.is_complex() or value.is_quantized
        return value if is_number else None
    return next(_tensors_inside(value, ()), None)


def any_requires_grad(value: object) -> bool:
    """Whether a gradient may flow back through a tensor in a tuple, list, dict or dataclass."""
    return any(tensor.requires_grad for tensor in _tensors_inside(value, ()))


def watch_outputs(
    module: nn.Module,
    output: object,
    function: Callable[..., None],
    *args: Any,
    inputs: object = (),
) -> None:
    """Call a function with the gradients of a module's output, up to `MAX_OUTPUTS` of its tensors.

    The gradient comes last among its arguments. On a leaf, a parameter, hooks would pile up: it
    gets none. Saving an output does not warn of them.

    An output that is a view loses its hooks if it is changed in place, as by an activation: it gets
    another gradient function. The tensor behind it keeps its own, so that it is watched too where
    the module made it: where it is none of ``inputs``.
    """
    tensors = iter((output,)) if isinstance(output, Tensor) else _tensors_inside(output, ())
    for tensor in islice((t for t in tensors if t.grad_fn is not None), MAX_OUTPUTS):
        see = functools.partial(function, *args)
        base = _base_of(tensor, inputs)
        if base is None:
            tensor.register_hook(unserializable_hook(see))
        elif type(module) is nn.Linear:  # with a bias and three dimensions, up to torch 2.14
            base.register_hook(unserializable_hook(see))
        else:
            _watch_either(tensor, base, see)


def _base_of(output: Tensor, inputs: object) -> Tensor | None:
    """Return the tensor of which an output shows all, unless it came from outside."""
    base = output._base
    if base is None or base.grad_fn is None or base.numel() != output.numel():
        return None
    is_outer = any(base is t or base is t._base for t in _tensors_inside(inputs, ()))
    return None if is_outer else base


def _watch_either(output: Tensor, base: Tensor, see: Callable[[Tensor], None]) -> None:
    """Call a function with the gradient of an output, or with that of its base if none arrives."""
    arrived: list[bool] = []

    def at_output(grad: Tensor) -> None:
        arrived.append(True)
        see(grad)

    def at_base(grad: Tensor) -> None:
        if arrived:
            arrived.clear()
        else:
            see(grad)

    output.register_hook(unserializable_hook(at_output))
    base.register_hook(unserializable_hook(at_base))


def _tensors_inside(value: object, outer: tuple[object, ...]) -> Iterator[Tensor]:
    outer = (*outer, value)
    for item in members(value):
        if isinstance(item, Tensor):
            yield from (t for t in (first_tensor(item),) if t is not None)
        elif not any(item is other for other in outer):  # a container may hold itself
            yield from _tensors_inside(item, outer)


def members(value: object) -> tuple[Any, ...]:
    """Return what a tuple, list, dict or dataclass holds; nothing for objects of other kinds.

    Fields are asked of the class: an object may answer any name, or raise what it likes.

    >>> members({"a": 1, "b": [2]})
    (1, [2])
    """
    if isinstance(value, Mapping):
        return tuple(value.values())
    names = getattr(type(value), "__dataclass_fields__", None)
    if isinstance(names, Mapping):
        return tuple(getattr(value, name, None) for name in names)
    return tuple(value) if isinstance(value, tuple | list) else ()


def is_quantized(module: nn.Module) -> bool:
    """Tell torch's layers whose weights are packed integers, which are no parameters."""
    home = type(module).__module__
    return home.startswith("torch.ao.nn.quantized") and hasattr(module, "_packed_params")


def is_norm(module: nn.Module) -> bool:
    """Tell normalisation layers, also those of other libraries, by class or by name."""
    return isinstance(module, _NORMS) or type(module).__name__.endswith("Norm")


def is_weight_layer(module: nn.Module) -> bool:
    """Tell convolution, linear, attention, recurrent and embedding layers; these count as depth."""
    if isinstance(module, _WEIGHT_LAYERS) or is_quantized(module):
        return True
    if has_children(module) or is_norm(module):
        return False
    # An attribute would run a parametrization, and spectral norm's changes its state.
    weights = dict(own_parameters(module, ""))
    weight = weights.get("weight", weights.get(_direction(module, "weight")))
    return weight is not None and weight.ndim >= 2


def is_layer(module: nn.Module) -> bool:
    """Tell what stands on the layer axis.

    Modules that own parameters or quantized weights, activations, and leaf modules of a user's own;
    torch's pooling, dropout, padding and reshaping do not.
    """
    if next(own_parameters(module, ""), None) is not None or is_quantized(module):
        return True
    if has_children(module):
        return False
    home = type(module).__module__
    return home == "torch.nn.modules.activation" or not home.startswith("torch.")


def has_children(module: nn.Module) -> bool:
    """Whether a module holds others, parametrizations of its own tensors aside."""
    return any(
        child is not None and name != _PARAMETRIZATIONS for name, child in module._modules.items()
    )


def is_parametrization(name: str, module: nn.Module) -> bool:
    """Whether a qualified name leads into the parametrizations of a module's own tensors."""
    is_list = isinstance(module, parametrize.ParametrizationList)
    return is_list or _PARAMETRIZATIONS in name.split(".")


def own_parameters(module: nn.Module, name: str) -> Iterator[tuple[str, nn.Parameter]]:
    """Iterate over the parameters of a module itself, those of parametrized tensors among them.

    Names are qualified: ``<name>.weight``, ``<name>.parametrizations.weight.original0``.
    """
    begin = f"{name}." if name else ""
    for key, tensor in module._parameters.items():
        if tensor is not None:
            yield begin + key, tensor
    inside = dict(module._modules.items()).get(_PARAMETRIZATIONS)
    if inside is not None and parametrize.is_parametrized(module):
        yield from inside.named_parameters(prefix=f"{begin}{_PARAMETRIZATIONS}")


def param_kind(module: nn.Module, name: str, tensor: Tensor, *, has_dead_bias: bool) -> str:
    """Name the role of a parameter (`schema.PARAM_KINDS`).

    Parameters
    ----------
    name : str
        As `own_parameters` gives it for an unnamed module: ``weight``.
    """
    role = _role(module, name)
    if is_norm(module):
        return "norm_bias" if "bias" in role else "norm_weight"
    if role == "":
        return "other"
    if isinstance(module, _EMBEDDINGS):
        return "embedding"
    if not is_weight_layer(module):
        return "other"
    if "bias" in role:
        return "dead_bias" if has_dead_bias else "bias"
    return "weight" if tensor.ndim >= 2 or "weight" in role else "other"


def _role(module: nn.Module, name: str) -> str:
    """Return the tensor that a parameter stands for; empty for the length of a weight norm."""
    if name.startswith(f"{_PARAMETRIZATIONS}."):
        tensor_name = name.split(".")[1]
        return tensor_name if name == _direction(module, tensor_name) else ""
    return "" if name.endswith("_g") and f"{name[:-2]}_v" in module._parameters else name


def _direction(module: nn.Module, tensor_name: str) -> str:
    """Name the largest of the parameters that a parametrized tensor is made from."""
    begin = f"{_PARAMETRIZATIONS}.{tensor_name}.original"
    sizes = {name: p.numel() for name, p in own_parameters(module, "") if name.startswith(begin)}
    return max(sizes, key=lambda name: sizes[name], default="")


def as_models(model: object) -> dict[str, nn.Module]:
    """Return prefix to model for one model or several.

    Parameters
    ----------
    model : Module, mapping of str to Module, or sequence of Module
        Those of a sequence are named by their number.

    Raises
    ------
    TypeError
        If something is no module.
    """
    if isinstance(model, list | tuple):
        model = {str(i): item for i, item in enumerate(model)}
    models = {"": model} if isinstance(model, nn.Module) else model
    if not isinstance(models, Mapping):
        raise TypeError(f"`model` must be a torch Module or a dict of them; got {type(model)}")
    for name, module in models.items():
        if not isinstance(module, nn.Module):
            raise TypeError(f"`model[{name!r}]` must be a torch Module; got {type(module)}")
    return {str(name): module for name, module in models.items()}


def device_of(models: Mapping[str, nn.Module]) -> torch.device:
    """Return the device of the first parameter that has data; the CPU without."""
    tensors = (p for model in models.values() for p in parameters_of(model))
    return next((p.device for p in tensors if not p.is_meta), torch.device("cpu"))
