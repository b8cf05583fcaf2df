"""The layers and parameters of models in execution order, and how deep each lies.

Order and depth follow the first forward pass with gradients of each model: the forward hooks call
`LayerTable.observe_call` and `observe_output` while it runs, and `arrange` then sorts and counts.
Layers that never run stand behind the layer registered before them.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from gradscope.record.model.identity import is_among
from gradscope.record.model.modules import (
    BATCH_NORMS,
    first_tensor,
    is_layer,
    is_parametrization,
    is_weight_layer,
    own_parameters,
    param_kind,
)
from gradscope.record.model.stages import set_stages
from gradscope.record.model.wrappers import class_name, named_modules, parameters_of


@dataclass(eq=False)
class Layer:
    """One module on the layer axis and what the first forward pass told of it."""

    name: str
    module: nn.Module
    model: str
    """Prefix of the model that it belongs to."""
    label: str = ""
    """Its name, with a number if the name was another module's before."""
    aliases: list[str] = field(default_factory=list)
    order: int | None = None
    shape: tuple[int, ...] | None = None
    """Shape of its first output."""
    cancels: Layer | None = None
    """The layer right before, if this one is a batch norm that cancels its bias."""
    takes_part: bool = True
    """Whether it ran, or one of its parameters has had a gradient."""
    depth: int = 0
    stage: int = -1

    @property
    def layer_type(self) -> str:
        """Name of the module's class."""
        return class_name(self.module)

    def parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Iterate over its own parameters, with qualified names."""
        return own_parameters(self.module, self.name)


@dataclass(frozen=True)
class Param:
    """One parameter and the layer that owns it; None where no module does."""

    name: str
    tensor: nn.Parameter
    layer: Layer | None
    kind: str
    shape: tuple[int, ...]
    """As it was listed."""

    @property
    def fan_in(self) -> int:
        """Inputs of each output unit; -1 where the question has no answer."""
        shape = self.tensor.shape
        if self.kind != "weight" or self.layer is None or len(shape) < 2:
            return -1
        is_turned = isinstance(self.layer.module, nn.modules.conv._ConvTransposeNd)
        is_turned |= self.layer.layer_type == "Conv1D"  # of transformers: (in, out)
        return self.tensor.numel() // max(shape[int(is_turned)], 1)


class Labels:
    """Gives each object a label of its own; a later object of the same name gets a number.

    So does an object that has changed its shape. An object is held until `leave` lets go of it:
    torch swaps no tensor that has a weak reference (``torch.utils.swap_tensors``), as it does when
    a module of sharded parameters moves.

    >>> labels, first, second = Labels(), nn.ReLU(), nn.ReLU()
    >>> labels.of("fc", first), labels.of("fc", second), labels.of("fc", first)
    ('fc', 'fc~2', 'fc')
    """

    def __init__(self) -> None:
        self._known: dict[str, list[tuple[Callable[[], Any], tuple[int, ...]]]] = {}

    def of(self, name: str, thing: Any, shape: tuple[int, ...] = ()) -> str:
        """Return the label of an object."""
        known = self._known.setdefault(name, [])
        same = (i for i, (ref, form) in enumerate(known) if ref() is thing and form == shape)
        number = next(same, len(known))
        if number == len(known):
            known.append((lambda: thing, shape))
        return name if number == 0 else f"{name}~{number + 1}"

    def leave(self, things: Iterable[Any]) -> None:
        """Hold some objects weakly from here; one that comes back has its label."""
        gone = list(things)
        for known in self._known.values() if gone else ():
            for i, (held, form) in enumerate(known):
                thing = held()
                if thing is not None and is_among(thing, gone):
                    known[i] = weakref.ref(thing), form


class LayerTable:
    """The layers and parameters of one or several models, in first-execution order.

    Parameters
    ----------
    models : mapping of str to Module
        Prefix to model; the empty prefix for a single model.
    trained : callable, optional
        Returns the parameters that may train now; by default those that require gradients.
    """

    def __init__(
        self,
        models: Mapping[str, nn.Module],
        trained: Callable[[], Iterable[Tensor]] | None = None,
    ) -> None:
        self.models = dict(models)
        self._trained = trained or self._requiring_grad
        self.layers: dict[int, Layer] = {}
        """Layers by the id of their module."""
        self.n_weight_layers = 0
        self._layer_labels, self._param_labels = Labels(), Labels()
        self._params: list[Param] = []
        self._strays: list[Param] = []
        self.places: dict[str, set[tuple[int, int]]] = {}
        """The parameter groups in which each parameter has been, by its label."""
        self._departed: list[weakref.ref[Tensor]] = []
        self._n_observed = 0
        self._last: tuple[Layer, Tensor] | None = None
        self._learned: set[str] = set()
        self._find_layers()

    def _find_layers(self) -> None:
        """Take the layers from the models as they are now; what is known of them stays."""
        known, self.layers = self.layers, {}
        for prefix, model in self.models.items():
            for name, module in named_modules(model, prefix):
                if is_parametrization(name, module) or not is_layer(module):
                    continue
                layer = self.layers.get(id(module))
                if layer is None:
                    layer = known.get(id(module)) or Layer(name, module, prefix)
                    layer.name, layer.aliases = name, []
                    self.layers[id(module)] = layer
                elif name != layer.name and name not in layer.aliases:
                    layer.aliases.append(name)

    @property
    def is_learning(self) -> bool:
        """Whether the order of a model's layers is not known yet."""
        return len(self._learned) < len(self.models)

    @property
    def is_stale(self) -> bool:
        """Whether a model ran for the first time since the layers were arranged."""
        return self.is_learning and any(
            layer.order is not None and layer.model not in self._learned
            for layer in self.layers.values()
        )

    def observe_call(self, module: nn.Module) -> None:
        """Note that a layer begins to run."""
        layer = self.layers[id(module)]
        if layer.order is None and layer.model not in self._learned:
            layer.order = self._n_observed
            self._n_observed += 1

    def observe_output(self, module: nn.Module, args: tuple[Any, ...], output: Tensor) -> None:
        """Note a layer's output: its shape, and whether it normalises the one before."""
        layer = self.layers[id(module)]
        if layer.model in self._learned:
            return
        self.observe_call(module)
        if layer.shape is None:
            layer.shape = tuple(output.shape)
            source = first_tensor(args)
            if isinstance(module, BATCH_NORMS) and self._last and source is self._last[1]:
                layer.cancels = self._last[0]
        self._last = (layer, output)

    def arrange(self) -> list[Layer]:
        """Sort the layers by first execution, set depth and stage, and keep what has run.

        A layer that did not run with its model is left out if no optimizer trains its parameters:
        a frozen copy, an average of weights, a branch that is never taken.
        """
        self._last = None  # no activation outlives its pass
        before = self.layers
        self._find_layers()
        ordered = _insert_unexecuted(list(self.layers.values()))
        self._learned |= {layer.model for layer in ordered if layer.order is not None}
        trained = set(map(id, self._trained()))
        ordered = [layer for layer in ordered if self._is_kept(layer, trained)]
        n_weight_layers = 0
        for layer in ordered:
            n_weight_layers += layer.takes_part and is_weight_layer(layer.module)
            layer.depth = max(n_weight_layers - 1, 0)
            layer.label = self._layer_labels.of(layer.name, layer.module)
        self.n_weight_layers = n_weight_layers
        set_stages(ordered, self.models.values())
        self.layers = {id(layer.module): layer for layer in ordered}
        left = (layer.module for key, layer in before.items() if key not in self.layers)
        self._layer_labels.leave(left)
        return ordered

    def _requiring_grad(self) -> Iterator[Tensor]:
        return (p for m in self.models.values() for p in parameters_of(m) if p.requires_grad)

    def _is_kept(self, layer: Layer, trained: Collection[int]) -> bool:
        own = [p for _, p in layer.parameters()]
        has_grad = any(p.grad is not None for p in own)
        is_silent = layer.order is None and layer.model in self._learned
        layer.takes_part = not is_silent or has_grad
        return layer.takes_part or any(p.requires_grad and id(p) in trained for p in own)

    def params(self) -> list[Param]:
        """List each parameter once, in the order of its layer.

        One that has left the models since the last call ends its row, unless it has a gradient.
        """
        found: dict[int, Param] = {}
        dead = {layer.cancels for layer in self.layers.values() if layer.cancels}
        for layer in self.layers.values():
            own = zip(own_parameters(layer.module, ""), layer.parameters(), strict=True)
            for (short, tensor), (full, _) in own:
                kind = param_kind(layer.module, short, tensor, has_dead_bias=layer in dead)
                if id(tensor) not in found:
                    shape = tuple(tensor.shape)
                    label = self._param_labels.of(full, tensor, shape)
                    found[id(tensor)] = Param(label, tensor, layer, kind, shape)
        left = [p for p in self._params if id(p.tensor) not in found]
        departed = [p.tensor for p in left if p.tensor.grad is None]
        self._departed += map(weakref.ref, departed)
        self._param_labels.leave(departed)
        self._params = [*found.values(), *(p for p in left if p.tensor.grad is not None)]
        return list(self._params)

    def strays(self, named: Iterable[tuple[str, Any]]) -> list[Param]:
        """List parameters that no layer owns; each keeps the name that it had first."""
        before = {id(p.tensor): p for p in self._strays}
        found: dict[int, Param] = {}
        for name, tensor in named:
            shape, known = tuple(tensor.shape), before.get(id(tensor))
            if known is None or known.shape != shape:
                label = self._param_labels.of(name, tensor, shape)
                known = Param(label, tensor, None, "other", shape)
            found[id(tensor)] = known
        kept = found.keys() | {id(p.tensor) for p in self._params}
        self._param_labels.leave(p.tensor for key, p in before.items() if key not in kept)
        self._strays = list(found.values())
        return self._strays

    def release(self) -> None:
        """Let go of the models; the table is empty from here."""
        self.models, self.layers, self._params, self._last = {}, {}, [], None
        self._strays, self.places = [], {}
        self._layer_labels, self._param_labels, self._departed = Labels(), Labels(), []

    def has_departed(self, tensor: Tensor) -> bool:
        """Whether a parameter has left the models for good."""
        return any(ref() is tensor for ref in self._departed)


def _insert_unexecuted(registered: list[Layer]) -> list[Layer]:
    keys: list[tuple[int, int]] = []
    last = -1
    for position, layer in enumerate(registered):
        last = layer.order if layer.order is not None else last
        keys.append((last, position))
    order = sorted(range(len(registered)), key=keys.__getitem__)
    return [registered[i] for i in order]
