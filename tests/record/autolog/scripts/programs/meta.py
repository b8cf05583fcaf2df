"""Meta-learning: a new optimizer for every task, on a copy of the net or on the net itself."""

import copy
import sys

import torch
from torch import nn

torch.manual_seed(0)
model = nn.Linear(6, 4)
outer = torch.optim.SGD(model.parameters(), lr=0.5)
for _ in range(6):
    before = copy.deepcopy(model)
    task = model if sys.argv[1] == "in place" else copy.deepcopy(model)
    inner = torch.optim.SGD(task.parameters(), lr=0.1)
    x = torch.randn(5, 6)
    for _ in range(2):
        inner.zero_grad()
        task(x).square().mean().backward()
        inner.step()
    with torch.no_grad():
        for p, start, end in zip(
            model.parameters(), before.parameters(), list(task.parameters()), strict=True
        ):
            p.grad = start - end
            p.copy_(start)
    print("norm", float(model.weight.grad.norm()))
    outer.step()
