"""Shape of kuangliu/pytorch-cifar: module level, workers, batch norm, a checkpoint."""

import sys

import torch
from torch import nn, optim
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(5)
net = nn.Sequential(
    nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(144, 3)
)
criterion = nn.CrossEntropyLoss()
optimizer = optim.SGD(net.parameters(), lr=float(sys.argv[1]), momentum=0.9)
scheduler = optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=2)
data = TensorDataset(torch.randn(24, 1, 8, 8), torch.randint(0, 3, (24,)))
loader = DataLoader(data, batch_size=8, shuffle=True, num_workers=1)

for _ in range(2):
    net.train()
    for inputs, targets in loader:
        optimizer.zero_grad()
        loss = criterion(net(inputs), targets)
        loss.backward()
        optimizer.step()
        print("loss", loss.item())
    net.eval()
    with torch.no_grad():
        net(data.tensors[0])
    torch.save({"net": net.state_dict(), "optimizer": optimizer.state_dict()}, sys.argv[2])
    scheduler.step()
