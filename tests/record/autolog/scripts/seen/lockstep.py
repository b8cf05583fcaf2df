"""Two trainings whose passes interleave, one begun later; the third is of a bare tensor."""

import torch
from torch import nn

torch.manual_seed(0)
x = torch.randn(5, 3)


def begin():
    net = nn.Linear(3, 2)
    return net, torch.optim.SGD(net.parameters(), lr=0.1)


def step(*trainings):
    losses = [net(x).square().mean() for net, _ in trainings]
    for (_, optimizer), loss in zip(trainings, losses, strict=True):
        optimizer.zero_grad()
        loss.backward()
    for _, optimizer in trainings:
        optimizer.step()
    return [loss.item() for loss in losses]


first = begin()
print("first", *step(first))
second = begin()
print("second", *step(second))
for _ in range(3):
    a, b = step(first, second)
    print("first", a, "\nsecond", b)
image = torch.randn(4, requires_grad=True)
optimizer = torch.optim.SGD([image], lr=0.1)
for k in range(3):
    for half in image.split(2):
        loss = (half - 1).square().sum()
        loss.backward()
        print("image", k, loss.item())
    optimizer.step()
    optimizer.zero_grad(set_to_none=False)
print("first", *step(first))
