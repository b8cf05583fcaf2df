"""A training that goes on with a copy of its model and optimizer, and with what was pickled."""

import copy
import pickle

import torch

torch.manual_seed(0)
model = torch.nn.Linear(6, 4)
optimizer = torch.optim.Adam(model.parameters())
x = torch.randn(5, 6)


def train(model, optimizer):
    for _ in range(3):
        loss = model(x).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        optimizer.load_state_dict(optimizer.state_dict())
        print("loss", loss.item())


kept = copy.deepcopy(optimizer)
train(model, optimizer)
model, optimizer = copy.deepcopy((model, optimizer))
train(model, optimizer)
model, optimizer = pickle.loads(pickle.dumps((model, optimizer)))  # noqa: S301
train(model, optimizer)
