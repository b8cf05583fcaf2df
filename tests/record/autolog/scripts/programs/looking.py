"""Looks whether torch is there before it imports it, as transformers and datasets do."""

import importlib.util
import sys


def look():
    assert importlib.util.find_spec("torch") is not None
    print("found", "torch" in sys.modules, flush=True)


look()
import torch  # noqa: E402

look()
model = torch.nn.Linear(2, 2)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for _ in range(2):
    model(torch.ones(1, 2)).sum().backward()
    optimizer.step()
