"""Shape of pytorch/examples time_sequence_prediction: a closure that runs many times a step."""

import torch
from torch import nn


class Sequence(nn.Module):
    """Registered in another order than run."""

    def __init__(self):
        super().__init__()
        self.last, self.first = nn.Linear(5, 1), nn.Linear(3, 5)

    def forward(self, x):
        return self.last(torch.tanh(self.first(x)))


torch.manual_seed(0)
seq = Sequence().double()
optimizer = torch.optim.LBFGS(seq.parameters(), lr=0.5, max_iter=4)
x = torch.randn(9, 3, dtype=torch.float64)
for _ in range(3):
    losses = []

    def closure(losses=losses):
        optimizer.zero_grad()
        loss = (seq(x) - x.sum(1, keepdim=True)).square().mean()
        losses.append(loss.item())
        loss.backward()
        return loss

    optimizer.step(closure)
    print("loss", losses[0])
