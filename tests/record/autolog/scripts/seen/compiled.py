"""Trainings of which a compiler sees more than the module that is called."""

import sys

import torch
from torch import nn
from torch.nn.functional import cross_entropy

how = sys.argv[1]
torch.manual_seed(0)
model = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 4))
x, y = torch.randn(10, 6), torch.randint(0, 4, (10,))


def loss_of(x, y):
    return cross_entropy(model(x), y)


def backward(x, y):
    loss = loss_of(x, y)
    loss.backward()
    return loss


def step(x, y):
    optimizer.zero_grad()
    loss = backward(x, y)
    optimizer.step()
    return loss


if how == "module":
    model.compile(backend="aot_eager")
elif how == "before":  # the compiler has done its work when the optimizer is made
    loss_of = torch.compile(loss_of, backend="aot_eager")
    loss_of(x, y)
elif how in ("loss_of", "backward", "step"):
    globals()[how] = torch.compile(globals()[how], backend="aot_eager")
optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
for _ in range(4):
    print("loss", step(x, y).item())
