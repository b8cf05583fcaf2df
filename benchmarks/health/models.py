"""Small models as users write them, for `benchmarks.health_runs`."""

from __future__ import annotations

from itertools import pairwise
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional


def mlp(
    depth: int, *, activation: type[nn.Module] = nn.ReLU, detached: int | None = None
) -> nn.Sequential:
    """Build hidden layers of 64 as torch initialises them; ``detached`` cuts the graph there."""
    layers: list[nn.Module] = []
    for k in range(depth):
        layers += [nn.Linear(64, 64), activation() if k != detached else _Detach(activation())]
    return nn.Sequential(*layers, nn.Linear(64, 10))


class _Detach(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, inputs: Tensor) -> Tensor:
        return cast(Tensor, self.inner(inputs.detach()))


class SmallCnn(nn.Module):
    """Two convolutions with functional ReLU and dropout, as in torch's MNIST example."""

    def __init__(self, bias: float | None = None) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 16, 3)
        self.conv2 = nn.Conv2d(16, 32, 3)
        self.hidden = nn.Linear(128, 64)
        self.head = nn.Linear(64, 10)
        if bias is not None:
            nn.init.constant_(self.hidden.bias, bias)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return logits (batch, 10) of pixels (batch, 64)."""
        outputs = functional.relu(self.conv1(inputs.view(-1, 1, 8, 8)))
        outputs = functional.max_pool2d(functional.relu(self.conv2(outputs)), 2)
        outputs = functional.dropout(outputs.flatten(1), 0.25, self.training)
        return cast(Tensor, self.head(functional.relu(self.hidden(outputs))))


class TokenLstm(nn.Module):
    """Embedding, two LSTM layers, head."""

    def __init__(self, n_symbols: int = 24) -> None:
        super().__init__()
        self.embedding = nn.Embedding(n_symbols, 32)
        self.lstm = nn.LSTM(32, 48, num_layers=2, batch_first=True)
        self.head = nn.Linear(48, n_symbols)

    def forward(self, symbols: Tensor) -> Tensor:
        """Return logits (batch, length, n_symbols)."""
        return cast(Tensor, self.head(self.lstm(self.embedding(symbols))[0]))


class PostNormTransformer(nn.Module):
    """torch's encoder with the norm behind each part (arXiv 2002.04745), over rows of pixels."""

    def __init__(self, depth: int) -> None:
        super().__init__()
        self.embedding = nn.Linear(8, 32)
        self.positions = nn.Parameter(0.02 * torch.randn(8, 32))
        layer = nn.TransformerEncoderLayer(32, 4, 64, dropout=0.0, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, depth, enable_nested_tensor=False)
        self.head = nn.Linear(32, 10)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return logits (batch, 10) of pixels (batch, 64)."""
        rows = self.embedding(inputs.view(-1, 8, 8)) + self.positions
        return cast(Tensor, self.head(self.encoder(rows).mean(1)))


class PatchTransformer(nn.Module):
    """A small vision transformer: patches of 2 x 2, norm before each part, GELU, mean pooling."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(1, 48, 2, stride=2)
        self.positions = nn.Parameter(0.02 * torch.randn(16, 48))
        layer = nn.TransformerEncoderLayer(
            48, 4, 96, dropout=0.1, activation="gelu", batch_first=True, norm_first=True
        )
        self.encoder = nn.TransformerEncoder(layer, 3, nn.LayerNorm(48), enable_nested_tensor=False)
        self.head = nn.Linear(48, 10)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return logits (batch, 10) of pixels (batch, 64)."""
        patches = self.patches(inputs.view(-1, 1, 8, 8)).flatten(2).transpose(1, 2)
        return cast(Tensor, self.head(self.encoder(patches + self.positions).mean(1)))


class Autoencoder(nn.Module):
    """64 to 8 to 64 with ELU."""

    def __init__(self) -> None:
        super().__init__()
        sizes = (64, 48, 24, 8, 24, 48, 64)
        layers: list[nn.Module] = []
        for before, after in pairwise(sizes):
            layers += [nn.Linear(before, after), nn.ELU()]
        self.layers = nn.Sequential(*layers[:-1])

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the reconstruction (batch, 64)."""
        return cast(Tensor, self.layers(inputs))


class Overflowing(nn.Module):
    """An MLP with a product that exceeds 65504, the largest float16, after some steps."""

    def __init__(self, after: int, every: int = 1) -> None:
        super().__init__()
        self.layers = mlp(3)
        self.scores = nn.Linear(64, 64)
        self.after, self.every, self.n_calls = after, every, 0

    def forward(self, inputs: Tensor) -> Tensor:
        """Return logits (batch, 10)."""
        self.n_calls += 1
        is_large = self.n_calls > self.after and self.n_calls % self.every == 0
        scores = self.scores(inputs * (3e4 if is_large else 1.0))
        return cast(Tensor, self.layers(inputs * torch.softmax(scores * scores, -1)))
