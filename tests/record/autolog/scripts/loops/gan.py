"""Shape of pytorch/examples dcgan: two nets, two optimizers, three backwards for two steps."""

import torch
from torch import nn


def main():
    torch.manual_seed(1)
    netG = nn.Sequential(nn.Linear(3, 6), nn.ReLU(True), nn.Linear(6, 4))
    netD = nn.Sequential(nn.Linear(4, 6), nn.ReLU(True), nn.Linear(6, 1))
    optimizerD = torch.optim.Adam(netD.parameters(), lr=0.01)
    optimizerG = torch.optim.Adam(netG.parameters(), lr=0.02)
    criterion = nn.BCEWithLogitsLoss()
    for _ in range(2):
        netD.zero_grad()
        real = criterion(netD(torch.randn(8, 4)), torch.ones(8, 1))
        real.backward()
        made = netG(torch.randn(8, 3))
        fake = criterion(netD(made.detach()), torch.zeros(8, 1))
        fake.backward()
        optimizerD.step()
        print("loss", (real + fake).item())
        netG.zero_grad()
        fooled = criterion(netD(made), torch.ones(8, 1))
        fooled.backward()
        optimizerG.step()
        print("loss", fooled.item())


if __name__ == "__main__":
    main()
