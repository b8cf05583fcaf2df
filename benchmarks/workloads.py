"""Workloads for timing the recorder; each returns model, optimizer and one step."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torchvision
from torch import nn

from gradscope import SMES
from gradscope.experiments.models.vgg import CHANNELS, VGG


@dataclass
class Workload:
    """A model in training: ``step()`` is one bare step and returns the loss."""

    name: str
    model: nn.Module
    optimizer: torch.optim.Optimizer
    step: Callable[[], torch.Tensor]
    n_steps: int
    """Steps of one timed block, and before it."""

    @property
    def n_params(self) -> int:
        """Entries of all parameters."""
        return sum(p.numel() for p in self.model.parameters())


Optimizer = Callable[..., torch.optim.Optimizer]


def adam(params) -> torch.optim.Optimizer:
    """Torch's fused Adam."""
    return torch.optim.Adam(params, lr=1e-4, fused=True)


def smes(params) -> torch.optim.Optimizer:
    """Our optimizer, at an exponent that needs the power of every entry."""
    return SMES(params, lr=1e-4, alpha=-0.2)


def _workload(name, model, inputs, n_classes, n_steps, device, make):
    model = model.to(device).train()
    x = inputs.to(device)
    y = torch.randint(0, n_classes, (len(x),), device=device)
    optimizer = make(model.parameters())

    def step():
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        return loss

    return Workload(name, model, optimizer, step, n_steps)


def w1(device: str = "cpu", make: Optimizer = adam) -> Workload:
    """VGG13 with batch norm, 9.4 M parameters, batch 32."""
    torch.manual_seed(0)
    model, inputs = VGG(CHANNELS["vgg13"], 10), torch.randn(32, 3, 32, 32)
    return _workload("W1", model, inputs, 10, 5, device, make)


def w2(device: str = "cpu", make: Optimizer = adam) -> Workload:
    """MLP of 10 layers, width 256, batch 64."""
    torch.manual_seed(0)
    layers = [m for _ in range(9) for m in (nn.Linear(256, 256), nn.ReLU(inplace=True))]
    model = nn.Sequential(*layers, nn.Linear(256, 10))
    return _workload("W2", model, torch.randn(64, 256), 10, 100, device, make)


def w3(device: str = "cpu", make: Optimizer = adam) -> Workload:
    """ResNet-50, 23.5 M parameters, 32 x 32, batch 4."""
    torch.manual_seed(0)
    model = torchvision.models.resnet50(num_classes=10)
    return _workload("W3", model, torch.randn(4, 3, 32, 32), 10, 10, device, make)


def many_tensors(device: str = "cpu", make: Optimizer = adam) -> Workload:
    """A chain of 1,000 linear layers of width 16, orthogonal: 2,000 tensors, batch 8."""
    torch.manual_seed(0)
    model = nn.Sequential(*(nn.Linear(16, 16) for _ in range(1000)))
    for layer in model:
        nn.init.orthogonal_(layer.weight)
    return _workload("Many", model, torch.randn(8, 16), 10, 10, device, make)


WORKLOADS: dict[str, Callable[..., Workload]] = {"W1": w1, "W2": w2, "W3": w3}
WORKLOADS |= {f"{name} SMES": functools.partial(w, make=smes) for name, w in WORKLOADS.items()}
