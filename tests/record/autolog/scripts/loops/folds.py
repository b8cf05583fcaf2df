"""Cross-validation: one training after the other; a finished one must not be kept alive.

The garbage collector is off, as where large models are trained: references alone must free it.
"""

import gc
import weakref

import torch
from torch import nn


def main():
    gc.disable()
    gone = []
    for fold in range(3):
        net = nn.Sequential(nn.Linear(4, 4 + fold), nn.ReLU(), nn.Linear(4 + fold, 2))
        adam = torch.optim.Adam(net.parameters(), lr=0.01)
        scheduler = torch.optim.lr_scheduler.ConstantLR(adam)
        for _ in range(110):
            adam.zero_grad()
            net(torch.randn(5, 4)).square().mean().backward()
            adam.step()
            scheduler.step()
        gone.append(weakref.ref(net))
    del net, adam, scheduler
    print("alive", [ref() is not None for ref in gone])
    gc.enable()


main()
