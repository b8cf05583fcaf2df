"""Cross-validation: one training after the other; a finished one must not be kept alive."""

import gc
import weakref

import torch
from torch import nn

gone = []
for fold in range(3):
    model = nn.Sequential(nn.Linear(4, 4 + fold), nn.ReLU(), nn.Linear(4 + fold, 2))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    scheduler = torch.optim.lr_scheduler.ConstantLR(optimizer)
    for _ in range(110):
        optimizer.zero_grad()
        model(torch.randn(5, 4)).square().mean().backward()
        optimizer.step()
        scheduler.step()
    gone.append(weakref.ref(model))
del model, optimizer, scheduler
gc.collect()
print("alive", [ref() is not None for ref in gone])
