"""Accelerate: wrapped optimizer, accumulation by context, ``accelerator.backward``."""

import warnings

import torch
from accelerate import Accelerator
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

warnings.simplefilter("ignore")
torch.manual_seed(2)
accelerator = Accelerator(cpu=True, gradient_accumulation_steps=2)
model = nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 3))
optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
data = TensorDataset(torch.randn(16, 6), torch.randint(0, 3, (16,)))
model, optimizer, loader = accelerator.prepare(model, optimizer, DataLoader(data, batch_size=4))
halves = []
for x, y in loader:
    with accelerator.accumulate(model):
        loss = nn.functional.cross_entropy(model(x), y)
        halves.append(loss.item() / 2)
        accelerator.backward(loss)
        accelerator.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
print("loss", halves[0] + halves[1])
print("loss", halves[2] + halves[3])
