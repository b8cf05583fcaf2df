"""Shape of karpathy/nanoGPT: compiled, autocast, GradScaler, accumulation, clipping, two groups."""

import sys

import torch
from torch import nn
from torch.nn.functional import cross_entropy


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.ln, self.mlp = nn.LayerNorm(8), nn.Sequential(nn.Linear(8, 16), nn.GELU())
        self.proj = nn.Linear(16, 8)

    def forward(self, x):
        return x + self.proj(self.mlp(self.ln(x)))


class GPT(nn.Module):
    def __init__(self):
        super().__init__()
        self.wte, self.h = nn.Embedding(11, 8), nn.ModuleList([Block(), Block()])
        self.head = nn.Linear(8, 11, bias=False)
        self.wte.weight = self.head.weight

    def forward(self, tokens, targets):
        x = self.wte(tokens)
        for block in self.h:
            x = block(x)
        logits = self.head(x)
        return logits, cross_entropy(logits.flatten(0, 1).float(), targets.flatten())


torch.manual_seed(1337)
model = GPT()
scaler = torch.amp.GradScaler("cpu", init_scale=256.0)
groups = [
    {"params": [p for p in model.parameters() if p.dim() >= 2], "weight_decay": 0.1},
    {"params": [p for p in model.parameters() if p.dim() < 2], "weight_decay": 0.0},
]
optimizer = torch.optim.AdamW(groups, lr=1e-2, betas=(0.9, 0.95), fused=True)
if "--compile" in sys.argv:
    model = torch.compile(model, backend="eager")
for step in range(3):
    total = 0.0
    for _ in range(2):
        tokens = torch.randint(0, 11, (4, 7))
        with torch.autocast("cpu", torch.float16):
            _, loss = model(tokens, tokens)
            loss = loss / 2
        total += loss.item()
        scaler.scale(loss).backward()
    if step == 1:
        model.head.weight.grad[0, 0] = float("inf")
    scaler.unscale_(optimizer)
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    scaler.step(optimizer)
    scaler.update()
    optimizer.zero_grad(set_to_none=True)
    print("loss", total)
