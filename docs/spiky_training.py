"""A training loop with one poisoned batch, for the picture of a spike."""

import torch
from sklearn.datasets import load_digits
from torch import nn

torch.manual_seed(0)
digits = load_digits()
images = torch.tensor(digits.data, dtype=torch.float32) / 16
labels = torch.tensor(digits.target)
hidden = [layer for _ in range(5) for layer in (nn.Linear(64, 64), nn.ReLU())]
model = nn.Sequential(*hidden, nn.Linear(64, 10))
optimizer = torch.optim.Adam(model.parameters(), lr=0.001)

for step in range(1, 301):
    batch = torch.randint(len(labels), (64,))
    outputs = model(images[batch] * (100 if step == 200 else 1))
    loss = nn.functional.cross_entropy(outputs, labels[batch])
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
