"""What is a layer, what its parameters are, and how deep it lies.

Order and depth follow the first forward pass with gradients: `observe` is called by the forward
hooks while it runs, and `LayerTable.arrange` then sorts and counts. Layers that never run (the
output projection inside ``nn.MultiheadAttention``) stand behind the layer registered before them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise

import torch
from torch import Tensor, nn

_WRAPPERS = re.compile(
    r"(^|\.)(module|_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)(?=\.|$)"
)
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
_BATCH_NORMS = (nn.modules.batchnorm._NormBase,)
_NORMS = (*_BATCH_NORMS, nn.LayerNorm, nn.GroupNorm, nn.LocalResponseNorm)
_EMBEDDINGS = (nn.Embedding, nn.EmbeddingBag)


def strip_wrappers(name: str) -> str:
    """Remove what DDP, FSDP, ``torch.compile`` and checkpointing put into a qualified name.

    >>> strip_wrappers("module._orig_mod.features.0.weight")
    'features.0.weight'
    """
    return _WRAPPERS.sub("", name).lstrip(".")


def class_name(module: nn.Module) -> str:
    """Name a module's class as its author did, whatever DDP, FSDP or a compiler made of it."""
    for wrapper in ("_orig_mod", "module"):
        inner = getattr(module, wrapper, None)
        if type(module).__module__.startswith("torch.") and isinstance(inner, nn.Module):
            return class_name(inner)
    bases = type(module).__bases__  # FSDP2 puts a class of its own in front
    return bases[1].__name__ if bases[0].__name__ == "FSDPModule" else type(module).__name__


def first_tensor(value: object) -> Tensor | None:
    """Find the first floating tensor in a module's output: tensor, tuple, dict or dataclass."""
    if isinstance(value, Tensor):
        return value if value.is_floating_point() else None
    if isinstance(value, Mapping):
        value = tuple(value.values())
    elif hasattr(value, "__dataclass_fields__"):
        value = tuple(vars(value).values())
    if isinstance(value, tuple | list):
        return next((t for t in map(first_tensor, value) if t is not None), None)
    return None


def is_norm(module: nn.Module) -> bool:
    """Tell normalisation layers, also those of other libraries, by class or by name."""
    return isinstance(module, _NORMS) or type(module).__name__.endswith("Norm")


def is_weight_layer(module: nn.Module) -> bool:
    """Tell convolution, linear, attention, recurrent and embedding layers; these count as depth."""
    if isinstance(module, _WEIGHT_LAYERS):
        return True
    weight = getattr(module, "weight", None)
    is_leaf = next(module.children(), None) is None
    return is_leaf and not is_norm(module) and isinstance(weight, nn.Parameter) and weight.ndim >= 2


def is_layer(module: nn.Module) -> bool:
    """Tell what stands on the layer axis.

    Modules that own parameters, activations, and leaf modules of a user's own; torch's pooling,
    dropout, padding and reshaping do not.
    """
    if next(module.parameters(recurse=False), None) is not None:
        return True
    if next(module.children(), None) is not None:
        return False
    home = type(module).__module__
    return home == "torch.nn.modules.activation" or not home.startswith("torch.")


@dataclass(eq=False)
class Layer:
    """One module on the layer axis and what the first forward pass told of it."""

    name: str
    module: nn.Module
    aliases: list[str] = field(default_factory=list)
    order: int | None = None
    resolution: int | None = None
    """Positions of the output: height x width or sequence length; 1 for vectors."""
    cancels: Layer | None = None
    """The layer right before, if this one is a batch norm that cancels its bias."""
    depth: int = 0
    stage: int = -1

    @property
    def layer_type(self) -> str:
        """Name of the module's class."""
        return class_name(self.module)


@dataclass(frozen=True)
class Param:
    """One parameter and the layer that owns it; None where no module does."""

    name: str
    tensor: nn.Parameter
    layer: Layer | None
    kind: str

    @property
    def fan_in(self) -> int:
        """Inputs of each output unit; -1 where the question has no answer."""
        shape = self.tensor.shape
        if self.kind != "weight" or self.layer is None or len(shape) < 2:
            return -1
        is_turned = isinstance(self.layer.module, nn.modules.conv._ConvTransposeNd)
        is_turned |= self.layer.layer_type == "Conv1D"  # of transformers: (in, out)
        return self.tensor.numel() // max(shape[int(is_turned)], 1)


class LayerTable:
    """The layers and parameters of one or several models, in first-execution order.

    Parameters
    ----------
    models : mapping of str to Module
        Prefix to model; the empty prefix for a single model.
    """

    def __init__(self, models: Mapping[str, nn.Module]) -> None:
        self.models = dict(models)
        self.layers: dict[nn.Module, Layer] = {}
        self._n_observed = 0
        self._last: tuple[Layer, Tensor] | None = None
        self.extend()

    def extend(self) -> None:
        """Take in modules that were added since."""
        for name, module in self._named_modules():
            known = self.layers.get(module)
            if known is None and is_layer(module):
                self.layers[module] = Layer(name, module)
            elif known is not None and name != known.name and name not in known.aliases:
                known.aliases.append(name)

    def _named_modules(self) -> Iterator[tuple[str, nn.Module]]:
        for prefix, model in self.models.items():
            for name, module in model.named_modules(remove_duplicate=False):
                yield strip_wrappers(f"{prefix}.{name}" if prefix else name).rstrip("."), module

    def observe_call(self, module: nn.Module) -> Layer:
        """Note that a layer begins to run."""
        layer = self.layers[module]
        if layer.order is None:
            layer.order = self._n_observed
            self._n_observed += 1
        return layer

    def observe_output(self, module: nn.Module, args: tuple, output: Tensor) -> None:
        """Note a layer's output: its resolution, and whether it normalises the one before."""
        layer = self.observe_call(module)
        if layer.resolution is None:
            layer.resolution = resolution(output)
            source = first_tensor(args)
            if isinstance(module, _BATCH_NORMS) and self._last and source is self._last[1]:
                layer.cancels = self._last[0]
        self._last = (layer, output)

    def forget_outputs(self) -> None:
        """Let go of the last output, so that no activation outlives its pass."""
        self._last = None

    def arrange(self) -> list[Layer]:
        """Sort the layers by first execution and set depth and stage."""
        ordered = _insert_unexecuted(list(self.layers.values()))
        n_weight_layers = 0
        for layer in ordered:
            n_weight_layers += is_weight_layer(layer.module)
            layer.depth = max(n_weight_layers - 1, 0)
        _set_stages(ordered)
        self.layers = {layer.module: layer for layer in ordered}
        return ordered

    @property
    def n_weight_layers(self) -> int:
        """Number of layers that count as depth."""
        return sum(map(is_weight_layer, self.layers))

    def params(self) -> list[Param]:
        """List each parameter once, in the order of its layer."""
        found: dict[int, Param] = {}
        dead = {layer.cancels for layer in self.layers.values() if layer.cancels}
        for layer in self.layers.values():
            for name, tensor in layer.module.named_parameters(recurse=False):
                full = strip_wrappers(f"{layer.name}.{name}" if layer.name else name)
                kind = param_kind(layer.module, name, tensor, has_dead_bias=layer in dead)
                found.setdefault(id(tensor), Param(full, tensor, layer, kind))
        return list(found.values())


def resolution(output: Tensor) -> int:
    """Count the positions of an output: (N, C, *space) space, (N, T, C) T, (N, C) 1."""
    if output.ndim >= 4:
        return output[0, 0].numel() if output.numel() else 0
    return output.shape[1] if output.ndim == 3 else 1


def param_kind(module: nn.Module, name: str, tensor: Tensor, *, has_dead_bias: bool) -> str:
    """Name the role of a parameter (`schema.PARAM_KINDS`)."""
    if is_norm(module):
        return "norm_bias" if "bias" in name else "norm_weight"
    if isinstance(module, _EMBEDDINGS):
        return "embedding"
    if not is_weight_layer(module):
        return "other"
    if "bias" in name:
        return "dead_bias" if has_dead_bias else "bias"
    return "weight" if tensor.ndim >= 2 or "weight" in name else "other"


def _insert_unexecuted(registered: list[Layer]) -> list[Layer]:
    keys: list[tuple[int, int]] = []
    last = -1
    for position, layer in enumerate(registered):
        last = layer.order if layer.order is not None else last
        keys.append((last, position))
    order = sorted(range(len(registered)), key=keys.__getitem__)
    return [registered[i] for i in order]


def _set_stages(ordered: list[Layer]) -> None:
    seen = [layer for layer in ordered if layer.resolution is not None]
    stage = 0
    for before, layer in pairwise([*seen[:1], *seen]):
        assert before.resolution is not None and layer.resolution is not None
        stage += layer.resolution < before.resolution
        layer.stage = stage


def as_models(model: nn.Module | Mapping[str, nn.Module]) -> dict[str, nn.Module]:
    """Return prefix to model for one model or several named ones.

    Raises
    ------
    TypeError
        If it is neither a module nor a mapping of names to modules.
    """
    models = {"": model} if isinstance(model, nn.Module) else model
    if not isinstance(models, Mapping) or isinstance(models, nn.ModuleDict):
        raise TypeError(f"`model` must be a torch Module or a dict of them; got {type(model)}")
    for name, module in models.items():
        if not isinstance(module, nn.Module):
            raise TypeError(f"`model[{name!r}]` must be a torch Module; got {type(module)}")
    return dict(models)


def device_of(models: Mapping[str, nn.Module]) -> torch.device:
    """Return the device of the first parameter; the CPU for models without."""
    tensors = (p for model in models.values() for p in model.parameters())
    return next((p.device for p in tensors), torch.device("cpu"))
