"""Two trainings by optimizers that can be neither compared nor hashed nor tested for truth."""

import torch
from torch import nn


class Odd(torch.optim.SGD):
    def refuse(self, *_):
        raise AssertionError("nobody may ask")

    __eq__ = __ne__ = __hash__ = __bool__ = __len__ = refuse


torch.manual_seed(0)
for width in (3, 4):
    body, head = nn.Linear(4, width), nn.Linear(width, 2)
    optimizers = [Odd(body.parameters(), lr=0.1), Odd(head.parameters(), lr=0.1)]
    for _ in range(3):
        loss = head(body(torch.randn(5, 4)).tanh()).square().mean()
        loss.backward()
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
        print("loss", loss.item())
