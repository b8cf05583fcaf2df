"""Train on handwritten digits with one fault: ``python faulty.py FAULT``."""

import sys

import torch
from sklearn.datasets import load_digits
from torch import nn

FAULT = sys.argv[1]
N_STEPS = 120


class PostNormTransformer(nn.Module):
    """Twelve blocks with the norm behind each part, over the eight rows of an image."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Linear(8, 32)
        block = nn.TransformerEncoderLayer(32, 4, 64, dropout=0.0, batch_first=True)
        self.encoder = nn.TransformerEncoder(block, 12, enable_nested_tensor=False)
        self.head = nn.Linear(32, 10)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return self.head(self.encoder(self.embedding(pixels.view(-1, 8, 8))).mean(1))


class Mlp(nn.Module):
    """Six hidden layers with He initialisation."""

    def __init__(self) -> None:
        super().__init__()
        hidden = [layer for _ in range(6) for layer in (nn.Linear(64, 64), nn.ReLU())]
        self.layers = nn.Sequential(*hidden, nn.Linear(64, 10))
        for layer in self.layers[::2]:
            nn.init.kaiming_normal_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        if FAULT == "frozen-layer":
            with torch.no_grad():  # forgotten after a test
                pixels = self.layers[:6](pixels)
            return self.layers[6:](pixels)
        return self.layers(pixels)


torch.manual_seed(0)
data = load_digits()
images, labels = torch.tensor(data.data, dtype=torch.float32), torch.tensor(data.target)
images = (images - images.mean()) / images.std()
model = PostNormTransformer() if FAULT == "no-warmup" else Mlp()
if FAULT == "dead-relu":
    nn.init.constant_(model.layers[6].bias, -8.0)
if FAULT == "bad-init":
    for layer in model.layers[::2]:
        nn.init.normal_(layer.weight, std=1.0)
optimizer = torch.optim.Adam(model.parameters(), lr=8e-3 if FAULT == "no-warmup" else 1e-3)
is_fp16 = FAULT == "fp16-overflow"
scaler = torch.amp.GradScaler("cpu", enabled=is_fp16)

for step in range(1, N_STEPS + 1):
    rows = torch.randint(len(images), (64,))
    batch = images[rows]
    if is_fp16 and step > 40:
        batch = batch * 1e5  # a loader that no longer normalises; float16 ends at 65504
    with torch.autocast("cpu", torch.float16, enabled=is_fp16):
        loss = nn.functional.cross_entropy(model(batch), labels[rows])
    optimizer.zero_grad()
    scaler.scale(loss).backward()
    scaler.step(optimizer)
    scaler.update()
