"""Shape of MadryLab's adversarial training: an attack's passes before each real one."""

import torch
from torch import nn

torch.manual_seed(0)
net = nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 2))
optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
for _ in range(4):
    x, delta = torch.randn(6, 4), torch.zeros(6, 4, requires_grad=True)
    for _ in range(3):
        net(x + delta).square().mean().backward()
        delta.data += 0.5 * delta.grad.sign()
        delta.grad.zero_()
    optimizer.zero_grad()
    loss = net(x + delta.detach()).square().mean()
    loss.backward()
    print("loss", loss.item())
    optimizer.step()
