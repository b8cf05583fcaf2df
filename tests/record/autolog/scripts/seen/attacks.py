"""Backward calls that reach no parameter, are zeroed in place, or step inside themselves."""

import contextlib
import sys

import torch
from torch import nn

torch.manual_seed(0)
net = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
if sys.argv[1] == "inside":
    optimizers = {p: torch.optim.SGD([p], lr=0.1) for p in net.parameters()}

    def on_grad(p):
        optimizers[p].step()
        optimizers[p].zero_grad()

    for p in net.parameters():
        p.register_post_accumulate_grad_hook(on_grad)
else:
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
for _ in range(3):
    x = torch.randn(5, 3, requires_grad=True)
    if sys.argv[1] == "inputs":
        (-net(x).square().mean()).backward(inputs=[x])
        x = (x + 0.1 * x.grad.sign()).detach()
    elif sys.argv[1] == "zeroed":
        (100 * net(x).square().mean()).backward()
        optimizer.zero_grad(set_to_none=False)
    elif sys.argv[1] == "raised":
        with contextlib.suppress(RuntimeError):
            (7 * net(x).square().mean()).backward(torch.ones(3))
    loss = net(x).square().mean()
    loss.backward()
    if sys.argv[1] != "inside":
        optimizer.step()
        optimizer.zero_grad()
    print("loss", loss.item())
