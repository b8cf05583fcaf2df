"""Shape of neural style transfer: what is optimised is a picture; the net stays as it is."""

import torch
from torch import nn

net = nn.Conv2d(1, 2, 3).requires_grad_(False)
picture = torch.zeros(1, 1, 6, 6, requires_grad=True)
optimizer = torch.optim.Adam([picture], lr=0.1)
for _ in range(3):
    optimizer.zero_grad()
    (net(picture) - 1).square().mean().backward()
    optimizer.step()
