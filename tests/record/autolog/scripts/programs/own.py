"""A script that records itself: gradscope must not be in its own way."""

import sys

import torch
from torch import nn

import gradscope

model = nn.Linear(3, 2)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
with gradscope.Recorder(model, optimizer, sys.argv[1]):
    for _ in range(2):
        optimizer.zero_grad()
        model(torch.randn(4, 3)).square().mean().backward()
        optimizer.step()
