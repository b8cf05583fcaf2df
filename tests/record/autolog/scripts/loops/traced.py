"""Shape of weiaicunzai/pytorch-cifar100: the net is traced before training, warm-up after."""

import warnings

import torch
from torch import nn


def main():
    net = nn.Sequential(nn.Linear(6, 5), nn.ReLU(inplace=True), nn.Linear(5, 2))
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        traced = torch.jit.trace(net, torch.ones(1, 6))
    assert "gradscope" not in str(traced.graph)
    for _ in range(3):
        optimizer.zero_grad()
        net(torch.randn(4, 6)).square().mean().backward()
        optimizer.step()


if __name__ == "__main__":
    main()
