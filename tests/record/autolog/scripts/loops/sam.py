"""Shape of davda54/sam: a wrapper whose own ``step`` is never called, around a base optimizer."""

import torch
from torch import nn


class SAM(torch.optim.Optimizer):
    """Two passes a step; the gradient of the first only moves the weights for the second."""

    def __init__(self, params, base, **options):
        super().__init__(params, options)
        self.base_optimizer = base(self.param_groups, **options)
        self.param_groups = self.base_optimizer.param_groups

    @torch.no_grad()
    def first_step(self):
        for p in self.param_groups[0]["params"]:
            self.state[p]["kept"] = p.clone()
            p.add_(p.grad, alpha=0.05)
        self.zero_grad()

    @torch.no_grad()
    def second_step(self):
        for p in self.param_groups[0]["params"]:
            p.copy_(self.state[p]["kept"])
        self.base_optimizer.step()
        self.zero_grad()


torch.manual_seed(0)
net = nn.Linear(4, 2)
sam = SAM(net.parameters(), torch.optim.SGD, lr=0.1)
for _ in range(4):
    x = torch.randn(6, 4)
    net(x).square().mean().backward()
    sam.first_step()
    second = net(x).square().mean()
    second.backward()
    print("loss", second.item())
    sam.second_step()
