"""One backward call from two losses."""

import torch

torch.manual_seed(0)
model = torch.nn.Linear(6, 4)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for _ in range(3):
    optimizer.zero_grad()
    y = model(torch.randn(5, 6))
    losses = [y.square().mean(), y.abs().mean()]
    torch.autograd.backward(losses)
    print("loss", float(losses[0].detach() + losses[1].detach()))
    optimizer.step()
