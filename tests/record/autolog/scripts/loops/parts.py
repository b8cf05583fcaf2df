"""A sequence-to-sequence loop: halves that are called by themselves, a trained criterion."""

import torch
from torch import nn


class Criterion(nn.Module):
    def __init__(self):
        super().__init__()
        self.log_scale = nn.Parameter(torch.zeros(()))

    def forward(self, x):
        return (x.square().mean() * torch.exp(-self.log_scale)) + self.log_scale


encoder, decoder = nn.Linear(4, 3), nn.Linear(3, 4)
criterion = Criterion()
optimizer = torch.optim.Adam(
    [*encoder.parameters(), *decoder.parameters(), *criterion.parameters()], lr=0.01
)
for _ in range(3):
    optimizer.zero_grad()
    criterion(decoder(torch.relu(encoder(torch.randn(5, 4))))).backward()
    optimizer.step()
