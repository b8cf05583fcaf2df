"""A small decoder-only transformer over characters.

A. Radford et al., *Language Models are Unsupervised Multitask Learners*, 2019 (GPT-2): layer norm
before each part, learned positions, initial weights N(0, 0.02^2), those that write into the
residual stream divided by the root of their number. No dropout; the head is not tied.
"""

from __future__ import annotations

import math
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from gradscope.errors import UsageError
from gradscope.experiments.config import Config

NAMES = ("transformer",)


class Attention(nn.Module):
    """Self-attention with ``n_heads`` heads, causal unless said otherwise."""

    def __init__(self, units: int, n_heads: int, *, is_causal: bool = True) -> None:
        super().__init__()
        self.n_heads, self.is_causal = n_heads, is_causal
        self.query_key_value = nn.Linear(units, 3 * units)
        self.out = nn.Linear(units, units)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return (batch, length, units); causal, a position sees itself and what came before."""
        batch, length, units = inputs.shape
        heads = self.query_key_value(inputs).view(batch, length, 3, self.n_heads, -1)
        query, key, value = heads.permute(2, 0, 3, 1, 4)
        mixed = scaled_dot_product_attention(query, key, value, is_causal=self.is_causal)
        return cast(Tensor, self.out(mixed.transpose(1, 2).reshape(batch, length, units)))


class TransformerBlock(nn.Module):
    """Attention and a two-layer network of four times the width, each added to its input."""

    def __init__(self, units: int, n_heads: int, *, is_causal: bool = True) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(units)
        self.attention = Attention(units, n_heads, is_causal=is_causal)
        self.norm2 = nn.LayerNorm(units)
        self.expand = nn.Linear(units, 4 * units)
        self.gelu = nn.GELU()
        self.contract = nn.Linear(4 * units, units)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return (batch, length, units)."""
        inputs = inputs + self.attention(self.norm1(inputs))
        return inputs + cast(Tensor, self.contract(self.gelu(self.expand(self.norm2(inputs)))))


class Transformer(nn.Module):
    """Embedding and positions, blocks, layer norm, head.

    Parameters
    ----------
    n_tokens, length : int
        Size of the vocabulary, longest context.
    depth, units, n_heads : int
        Blocks, width, heads of each attention.
    """

    def __init__(self, n_tokens: int, length: int, *, depth: int, units: int, n_heads: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(n_tokens, units)
        self.positions = nn.Parameter(torch.empty(length, units))
        self.blocks = nn.Sequential(*(TransformerBlock(units, n_heads) for _ in range(depth)))
        self.norm = nn.LayerNorm(units)
        self.head = nn.Linear(units, n_tokens)
        self._initialise(depth)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return the logits (batch, length, n_tokens) of the next tokens."""
        inputs = self.embedding(tokens) + self.positions[: tokens.shape[1]]
        return cast(Tensor, self.head(self.norm(self.blocks(inputs))))

    def _initialise(self, depth: int) -> None:
        nn.init.normal_(self.positions, std=0.02)
        for name, module in self.named_modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                is_residual = name.endswith(("attention.out", "contract"))
                std = 0.02 / math.sqrt(2 * depth) if is_residual else 0.02
                nn.init.normal_(module.weight, std=std)
            if isinstance(module, nn.Linear):
                nn.init.zeros_(module.bias)


def build(config: Config, *, sample_shape: tuple[int, ...], n_outputs: int) -> nn.Module:
    """Build a transformer of ``depth`` blocks of ``units`` units with ``n_heads`` heads.

    Raises
    ------
    UsageError
        If the heads do not divide the units.
    """
    units, depth = cast(int, config.units), cast(int, config.depth)
    if units % config.n_heads:
        raise UsageError(f"`units` must be a multiple of `n_heads`; got {units}, {config.n_heads}")
    return Transformer(n_outputs, sample_shape[0], depth=depth, units=units, n_heads=config.n_heads)
