"""The parameters that a recorder watches: their rows, their coordinates, their optimizer."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gradscope.record.model.layers import Layer, LayerTable
from gradscope.record.model.wrappers import parameters_of

Selector = str | Callable[[str], bool] | None


def make_selector(include: Selector, exclude: Selector) -> Callable[[str], bool]:
    """Combine two patterns or predicates on parameter names; a pattern may match anywhere.

    Raises
    ------
    TypeError, ValueError
        If one is of another kind, or no regular expression.
    """

    def predicate(option: str, given: Selector, *, default: bool) -> Callable[[str], bool]:
        if given is None:
            return lambda _name: default
        if callable(given):
            return given
        try:
            pattern = re.compile(given)
        except re.error as error:
            raise ValueError(f"{given!r} is no regular expression: {error}") from error
        except TypeError as error:
            words = "must be a regular expression or name -> bool"
            raise TypeError(f"`{option}` {words}; got {given!r}") from error
        return lambda name: pattern.search(name) is not None

    is_in = predicate("include", include, default=True)
    is_out = predicate("exclude", exclude, default=False)
    return lambda name: is_in(name) and not is_out(name)


def base_name(label: str) -> str:
    """Return a parameter's name without the number of one that replaced another.

    >>> base_name("fc.weight~2")
    'fc.weight'
    """
    return re.sub(r"~\d+$", "", label)


class ParamTable:
    """The watched parameters in order, and where each stands in its optimizer.

    Parameters
    ----------
    layers : LayerTable
        Already arranged.
    optimizers : mapping of str to Optimizer
    is_selected : callable
        Predicate on the parameter's name.
    """

    def __init__(
        self,
        layers: LayerTable,
        optimizers: Mapping[str, torch.optim.Optimizer],
        is_selected: Callable[[str], bool],
    ) -> None:
        self._n_weight_layers = layers.n_weight_layers
        self._layers = layers
        owned = layers.params()
        strays = layers.strays(_strays(optimizers, {id(p.tensor) for p in owned}))
        self._all = owned + strays  # kept alive, so that their ids stay theirs
        self._shapes = {id(p.tensor): p.tensor.shape for p in self._all}
        inside = {id(p) for model in layers.models.values() for p in parameters_of(model)}
        self._idle = [p.tensor for p in strays if id(p.tensor) in inside]
        shown = [p for p in strays if id(p.tensor) not in inside]
        shown = owned + [p for p in shown if not layers.has_departed(p.tensor)]
        self.params = [p for p in shown if is_selected(base_name(p.name))]
        self.passed_over = [] if self.params else [p.name for p in shown]
        """Names of the parameters where none is selected."""
        self.row = {id(p.tensor): row for row, p in enumerate(self.params)}
        self.layers = [layer for layer in layers.layers.values() if self._is_kept(layer)]
        self.numel = np.array([p.tensor.numel() for p in self.params], dtype=np.int64)
        self._optimizers = optimizers
        self._members = self._members_now()
        self.owners = _owners(optimizers)
        """The optimizers of each parameter that several train, by its id."""
        self.group = self._groups()
        """Index of each parameter's group, counted through all optimizers; -1 without just one."""
        self._told_group = np.where(self._have_moved(), -1, self.group).astype(np.int32)

    def _is_kept(self, layer: Layer) -> bool:
        """A layer stays if one of its parameters does, or if it has none."""
        own = [p for _, p in layer.parameters()]
        return not own or any(id(p) in self.row for p in own)

    @property
    def n_groups(self) -> int:
        """Parameter groups of all optimizers together."""
        return len(self._members)

    def _members_now(self) -> list[int]:
        """Tell whether a parameter has moved to another group: the sum of the ids in each."""
        groups = (g for o in self._optimizers.values() for g in o.param_groups)
        return [sum(map(id, group["params"])) for group in groups]

    def _groups(self) -> np.ndarray:
        groups = np.full(len(self.params), -1, dtype=np.int32)
        everything = [g for o in self._optimizers.values() for g in o.param_groups]
        for index, group in enumerate(everything):
            for tensor in group["params"]:
                if id(tensor) in self.row:
                    groups[self.row[id(tensor)]] = index
        groups[[self.row[key] for key in self.owners if key in self.row]] = -1
        return groups

    def _have_moved(self) -> list[bool]:
        """Tell which parameters were in another group before: no one group is theirs."""
        places = [
            (number, position)
            for number, optimizer in enumerate(self._optimizers.values())
            for position in range(len(optimizer.param_groups))
        ]
        for param, index in zip(self.params, self.group.tolist(), strict=True):
            if index >= 0:
                self._layers.places.setdefault(param.name, set()).add(places[index])
        return [len(self._layers.places.get(param.name, ())) > 1 for param in self.params]

    @property
    def shared(self) -> list[str]:
        """Names of parameters that several optimizers train."""
        return [p.name for p in self.params if id(p.tensor) in self.owners]

    def rivals(self, optimizer: int) -> frozenset[int]:
        """Optimizers, by number, that train a parameter which this one trains too."""
        together = [owners for owners in self.owners.values() if optimizer in owners]
        return frozenset().union(*together) - {optimizer}

    def owned(self, optimizer: torch.optim.Optimizer) -> list[Tensor]:
        """Watched parameters that this optimizer trains."""
        return [t for g in optimizer.param_groups for t in g["params"] if id(t) in self.row]

    def active(self, optimizer: torch.optim.Optimizer) -> tuple[list[int], list[Tensor]]:
        """Rows and tensors of those that have a gradient now."""
        tensors = [t for t in self.owned(optimizer) if t.grad is not None]
        return [self.row[id(t)] for t in tensors], tensors

    def is_stale(self, optimizer: torch.optim.Optimizer) -> bool:
        """Whether the table lacks a parameter or shape that trains, its group or an order known."""
        known = self._shapes
        if self._layers.is_stale or self._members != self._members_now():
            return True
        if any(t.grad is not None for t in self._idle):
            return True
        return any(known.get(id(t)) != t.shape for g in optimizer.param_groups for t in g["params"])

    def param_axis(self) -> dict[str, Any]:
        """Index and coordinates of the ``param`` dimension (`schema.PARAM_COORDINATES`)."""
        owned = [(p, p.layer) for p in self.params]
        return {
            "param": [p.name for p in self.params],
            "layer": [layer.label if layer else "" for _, layer in owned],
            "depth": [layer.depth if layer else -1 for _, layer in owned],
            "relative_depth": [self._relative(layer) for _, layer in owned],
            "layer_type": [layer.layer_type if layer else "" for _, layer in owned],
            "stage": [layer.stage if layer else -1 for _, layer in owned],
            "kind": [p.kind for p in self.params],
            "numel": self.numel,
            "shape": ["x".join(map(str, p.tensor.shape)) for p in self.params],
            "fan_in": [p.fan_in for p in self.params],
            "param_group": self._told_group,
            "requires_grad": [p.tensor.requires_grad for p in self.params],
        }

    def layer_axis(self) -> dict[str, Any]:
        """Index and coordinates of the ``layer`` dimension (`schema.LAYER_COORDINATES`)."""
        return {
            "layer": [layer.label for layer in self.layers],
            "depth": [layer.depth for layer in self.layers],
            "relative_depth": [self._relative(layer) for layer in self.layers],
            "layer_type": [layer.layer_type for layer in self.layers],
            "stage": [layer.stage for layer in self.layers],
            "aliases": [" ".join(layer.aliases) for layer in self.layers],
        }

    def _relative(self, layer: Layer | None) -> float:
        if layer is None:
            return float("nan")
        return layer.depth / max(self._n_weight_layers - 1, 1)


def _owners(optimizers: Mapping[str, torch.optim.Optimizer]) -> dict[int, frozenset[int]]:
    """Numbers of the optimizers of each parameter that more than one trains, by its id."""
    found: dict[int, set[int]] = {}
    for number, optimizer in enumerate(optimizers.values()):
        for group in optimizer.param_groups:
            for tensor in group["params"]:
                found.setdefault(id(tensor), set()).add(number)
    return {key: frozenset(owners) for key, owners in found.items() if len(owners) > 1}


def _strays(
    optimizers: Mapping[str, torch.optim.Optimizer], owned: set[int]
) -> Iterator[tuple[str, Tensor]]:
    """Parameters that an optimizer trains and no watched layer owns, by their place there."""
    for prefix, optimizer in optimizers.items():
        for g, group in enumerate(optimizer.param_groups):
            for i, tensor in enumerate(group["params"]):
                if id(tensor) not in owned:
                    yield ".".join(filter(None, [prefix, f"param_groups.{g}.{i}"])), tensor
