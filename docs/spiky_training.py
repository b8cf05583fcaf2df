"""A training loop with one poisoned batch, for the picture of a spike."""

import torch
from sklearn.datasets import load_digits
from torch import nn

torch.manual_seed(0)
digits = load_digits()
images = torch.tensor(digits.data, dtype=torch.float32) / 16
labels = torch.tensor(digits.target)
model = nn.Sequential()
for depth in range(5):
    model.add_module(f"layer{depth}", nn.Linear(64, 64))
    model.add_module(f"relu{depth}", nn.ReLU())
model.add_module("head", nn.Linear(64, 10))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)

for step in range(1, 301):
    batch = torch.randint(len(labels), (64,))
    outputs = model(images[batch] * (4 if step == 200 else 1))
    loss = nn.functional.cross_entropy(outputs, labels[batch])
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
