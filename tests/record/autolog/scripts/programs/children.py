"""Shape of pytorch/examples mnist_hogwild: children train too, spawned and forked."""

import multiprocessing

import torch
from torch import nn


def train(n_steps):
    model = nn.Linear(3, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(n_steps):
        optimizer.zero_grad()
        model(torch.randn(4, 3)).square().mean().backward()
        optimizer.step()


if __name__ == "__main__":
    train(2)
    for method in ("fork", "spawn"):
        child = multiprocessing.get_context(method).Process(target=train, args=(3,))
        child.start()
        child.join()
        print(method, child.exitcode)
