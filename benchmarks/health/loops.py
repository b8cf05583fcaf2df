"""What a training of the benchmark is: a user's loop, or the built-in experiment."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

from gradscope import Recorder
from gradscope.experiments.config import Config
from gradscope.experiments.datasets import tokens
from gradscope.experiments.training.loop import train

N_STEPS = 120
BATCH = 64


@dataclass(frozen=True)
class Case:
    """One training: what it is, which rule should fire (None: none), and how it is recorded."""

    name: str
    rule: str | None
    record: Callable[[Path], None]


def builtin(name: str, rule: str | None = None, **options: Any) -> Case:
    """Make a case of the built-in experiment."""
    settings = {"steps": N_STEPS, "weight_decay": 0.0, "device": "cpu", **options}

    def record(path: Path) -> None:
        train(Config(**settings), path, if_exists="overwrite")

    return Case(name, rule, record)


def digits() -> tuple[Tensor, Tensor]:
    """Return scikit-learn's digits: (1797, 64) standardised pixels and classes."""
    data = load_digits()
    pixels = torch.tensor(data.data, dtype=torch.float32)
    return (pixels - pixels.mean()) / pixels.std(), torch.tensor(data.target)


def symbols() -> tuple[Tensor, Tensor]:
    """Return sequences of a Markov chain and the symbols that follow."""
    config = Config(dataset="zipf", n_tokens=50_000, n_classes=24, context=24).resolved()
    split = tokens.load(config).train
    return split.images.long(), split.labels


def class_loss(outputs: Tensor, inputs: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy, over positions too where there are any."""
    del inputs
    return nn.functional.cross_entropy(outputs.flatten(0, -2).float(), labels.flatten())


def rebuild_loss(outputs: Tensor, inputs: Tensor, labels: Tensor) -> Tensor:
    """Squared error of a reconstruction."""
    del labels
    return nn.functional.mse_loss(outputs, inputs)


@dataclass(frozen=True)
class Loop:
    """A user's training loop around any model."""

    model: Callable[[], nn.Module]
    optimizer: Callable[[list[nn.Parameter]], torch.optim.Optimizer]
    data: Callable[[], tuple[Tensor, Tensor]] = digits
    loss: Callable[[Tensor, Tensor, Tensor], Tensor] = class_loss
    warmup: int = 0
    clip: float | None = None
    is_fp16: bool = False
    n_steps: int = N_STEPS
    left_out: str = ""

    def run(self, path: Path, seed: int) -> None:
        """Train and record."""
        torch.manual_seed(seed)
        model, (inputs, labels) = self.model(), self.data()
        given = [
            p for n, p in model.named_parameters() if not self.left_out or self.left_out not in n
        ]
        optimizer = self.optimizer(given)
        full = [group["lr"] for group in optimizer.param_groups]
        scaler = torch.amp.GradScaler("cpu", enabled=self.is_fp16)
        known = {"grad_scaler": scaler} if self.is_fp16 else {}
        with Recorder(model, optimizer, path, if_exists="overwrite", **known) as recorder:
            for step in range(1, self.n_steps + 1):
                for group, lr in zip(optimizer.param_groups, full, strict=True):
                    group["lr"] = lr * min(1.0, step / max(self.warmup, 1))
                rows = torch.randint(len(inputs), (BATCH,))
                with torch.autocast("cpu", torch.float16, enabled=self.is_fp16):
                    outputs = model(inputs[rows])
                loss = self.loss(outputs, inputs[rows], labels[rows])
                optimizer.zero_grad()
                scaler.scale(loss).backward()
                if self.clip is not None:
                    nn.utils.clip_grad_norm_(model.parameters(), self.clip)
                scaler.step(optimizer)
                scaler.update()
                recorder.log(loss=loss)


def own(name: str, loop: Loop, *, seed: int, rule: str | None = None) -> Case:
    """Make a case of a user's loop."""
    return Case(name, rule, lambda path: loop.run(path, seed))


def adam(lr: float) -> Callable[[list[nn.Parameter]], torch.optim.Optimizer]:
    """Build Adam."""
    return lambda params: torch.optim.Adam(params, lr)


def adamw(lr: float) -> Callable[[list[nn.Parameter]], torch.optim.Optimizer]:
    """Build AdamW."""
    return lambda params: torch.optim.AdamW(params, lr)


def sgd(lr: float) -> Callable[[list[nn.Parameter]], torch.optim.Optimizer]:
    """Build SGD with momentum 0.9."""
    return lambda params: torch.optim.SGD(params, lr, momentum=0.9)


def rmsprop(lr: float) -> Callable[[list[nn.Parameter]], torch.optim.Optimizer]:
    """Build RMSprop."""
    return lambda params: torch.optim.RMSprop(params, lr)
