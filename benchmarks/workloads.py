"""Workloads for timing the recorder; each returns model, optimizer and one step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torchvision
from torch import nn

from gradscope.experiments.models.vgg import CHANNELS, VGG


@dataclass
class Workload:
    """A model in training: ``step()`` is one bare step and returns the loss."""

    name: str
    model: nn.Module
    optimizer: torch.optim.Optimizer
    step: Callable[[], torch.Tensor]
    n_steps: int
    """Steps of one timed block."""

    @property
    def n_params(self) -> int:
        """Entries of all parameters."""
        return sum(p.numel() for p in self.model.parameters())


def _workload(name, model, inputs, n_classes, n_steps, device):
    model = model.to(device).train()
    x = inputs.to(device)
    y = torch.randint(0, n_classes, (len(x),), device=device)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4, fused=True)

    def step():
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        return loss

    return Workload(name, model, optimizer, step, n_steps)


def w1(device: str = "cpu") -> Workload:
    """VGG13 with batch norm, 9.4 M parameters, batch 32."""
    torch.manual_seed(0)
    return _workload("W1", VGG(CHANNELS["vgg13"], 10), torch.randn(32, 3, 32, 32), 10, 2, device)


def w2(device: str = "cpu") -> Workload:
    """MLP of 10 layers, width 256, batch 64."""
    torch.manual_seed(0)
    layers = [m for _ in range(9) for m in (nn.Linear(256, 256), nn.ReLU(inplace=True))]
    model = nn.Sequential(*layers, nn.Linear(256, 10))
    return _workload("W2", model, torch.randn(64, 256), 10, 60, device)


def w3(device: str = "cpu") -> Workload:
    """ResNet-50, 23.5 M parameters, 32 x 32, batch 4."""
    torch.manual_seed(0)
    model = torchvision.models.resnet50(num_classes=10)
    return _workload("W3", model, torch.randn(4, 3, 32, 32), 10, 3, device)


WORKLOADS = {"W1": w1, "W2": w2, "W3": w3}
