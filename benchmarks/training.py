"""Images per second of the built-in loop and of an ordinary eager loop over a DataLoader.

    uv run python -m benchmarks.training [--device cuda] [--amp bf16] [--compile]

VGG13 with batch norm on 32 x 32 images, crop and flip, Adam's moments. The ordinary loop is what
people write: torchvision's transforms image by image in worker processes, `torch.optim.Adam`, no
recording. Ours runs bare and recorded. All take turns in blocks; each turn is one observation of
the ratios, which are above 1 where ours is faster. On CUDA the share of the device's peak counts
the multiplications and additions of forward and backward, as torch's own counter does.

Results go to ``benchmarks/results/training-<device>.json``.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import platform
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, Dataset
from torch.utils.flop_counter import FlopCounterMode
from torchvision import transforms

import gradscope
from gradscope.experiments.config import Config
from gradscope.experiments.models.registry import build_model
from gradscope.experiments.training.environment import find_device, numerics
from gradscope.experiments.training.setup import Experiment, build_experiment
from gradscope.experiments.training.steps import take_step

Step = Callable[[], object]

PEAKS = {("H200", "bf16"): 989e12, ("H100", "bf16"): 989e12, ("A100", "bf16"): 312e12}
"""Operations a second without sparsity, from the makers' data sheets."""
DTYPES = {"off": torch.float32, "bf16": torch.bfloat16}


class Images(Dataset):
    """Images as torchvision's CIFAR10 hands them out: one by one, through its transforms."""

    def __init__(self, images: Tensor, labels: Tensor) -> None:
        self.images, self.labels = images.permute(0, 2, 3, 1).numpy(), labels.tolist()
        self.transform = transforms.Compose(
            [
                transforms.RandomCrop(32, padding=4),
                transforms.RandomHorizontalFlip(),
                transforms.ToTensor(),
                transforms.Normalize((0.5,) * 3, (0.25,) * 3),
            ]
        )

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(Image.fromarray(self.images[index])), self.labels[index]


def forever(loader: DataLoader) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield batches, epoch after epoch."""
    while True:
        yield from loader


def ordinary_step(experiment: Experiment, n_workers: int) -> Step:
    """Return one step of the ordinary loop on the experiment's images."""
    config, device = experiment.config, experiment.device
    split = experiment.stream.split.to(torch.device("cpu"))
    loader = DataLoader(
        Images(split.images, split.labels),
        batch_size=experiment.stream.batch_size,
        shuffle=True,
        drop_last=True,
        num_workers=n_workers,
        pin_memory=device.type == "cuda",
        persistent_workers=n_workers > 0,
    )
    batches = forever(loader)
    model = build_model(config, sample_shape=tuple(split.images.shape[1:]), n_outputs=10)
    model.to(device).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, weight_decay=5e-4)

    def step() -> None:
        images, labels = (t.to(device, non_blocking=True) for t in next(batches))
        optimizer.zero_grad()
        with torch.autocast(device.type, dtype=DTYPES[config.amp], enabled=config.amp != "off"):
            logits = model(images)
        cross_entropy(logits.float(), labels).backward()
        optimizer.step()

    return step


def seconds_a_step(step: Step, n_steps: int, device: torch.device) -> float:
    """Time one block, the device's work included."""
    wait = torch.cuda.synchronize if device.type == "cuda" else (lambda: None)
    wait()
    began = time.perf_counter()
    for _ in range(n_steps):
        step()
    wait()
    return (time.perf_counter() - began) / n_steps


def flops_a_step(experiment: Experiment) -> int:
    """Count operations of forward and backward, on a batch without gradients left behind."""
    inputs, targets = next(experiment.stream)
    model: nn.Module = experiment.model
    with FlopCounterMode(display=False) as counter:
        cross_entropy(model(inputs).float(), targets).backward()
    model.zero_grad(set_to_none=True)
    return counter.get_total_flops()


def measure(config: Config, *, n_steps: int, n_blocks: int, n_workers: int) -> np.ndarray:
    """Return (block, 3): seconds of a step of the ordinary loop, of ours bare, of ours recorded."""
    with numerics(seed=0, deterministic=False), tempfile.TemporaryDirectory() as folder:
        experiment, twin = build_experiment(config), build_experiment(config)
        ordinary, times = ordinary_step(experiment, n_workers), []
        experiment.model.train()
        twin.model.train()
        n_bare = itertools.count(1)
        path = Path(folder) / "run.h5"
        with gradscope.Recorder(experiment.model, experiment.optimizer, path) as recorder:

            def bare() -> None:
                take_step(twin, next(n_bare))

            def recorded() -> None:
                recorder.log(loss=take_step(experiment, recorder.step + 1))

            loops = (ordinary, bare, recorded)
            for step in loops:
                seconds_a_step(step, 5, experiment.device)
            for _ in range(n_blocks):
                times.append([seconds_a_step(step, n_steps, experiment.device) for step in loops])
        return np.array(times)


def summarize(times: np.ndarray, config: Config) -> dict[str, float]:
    """Images a second of each loop, ratios with bootstrap intervals, share of the peak."""
    speeds = config.batch_size / np.median(times, axis=0)
    ours = speeds[2]
    names = ("ordinary_images_per_s", "bare_images_per_s", "images_per_s")
    result = dict(zip(names, speeds, strict=True))
    for word, column in (("bare_", 1), ("", 2)):
        ratio = times[:, 0] / times[:, column]
        draws = np.random.default_rng(0).choice(ratio, (4000, len(ratio)))
        low, high = np.quantile(np.median(draws, axis=1), [0.025, 0.975])
        result |= {f"{word}ratio": np.median(ratio), f"{word}low": low, f"{word}high": high}
    result["blocks"] = len(times)
    name = torch.cuda.get_device_name() if config.device == "cuda" else ""
    peaks = [p for (word, amp), p in PEAKS.items() if word in name and amp == config.amp]
    if peaks:
        with numerics(seed=0, deterministic=False):
            flops = flops_a_step(build_experiment(config))
        result["share_of_peak"] = flops / config.batch_size * ours / peaks[0]
    return result


def report(about: dict[str, object], result: dict[str, float]) -> str:
    """A table of the three loops."""
    words = ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in about.items())
    lines = [
        f"# Training VGG13 on 32 x 32 images\n\n{words}; medians of {result['blocks']} turns.\n"
    ]
    lines += ["| loop | images/s | over the ordinary one |", "|---|---:|---:|"]
    lines += [f"| ordinary, DataLoader | {result['ordinary_images_per_s']:,.0f} | 1 |"]
    for word, name in (("bare_", "built-in, bare"), ("", "built-in, recorded")):
        low, middle, high = (result[f"{word}{key}"] for key in ("low", "ratio", "high"))
        speed = result[f"{word}images_per_s"]
        lines += [f"| {name} | {speed:,.0f} | {middle:.2f} ({low:.2f} to {high:.2f}) |"]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure, print the table, and write it under ``benchmarks/results/``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--amp", choices=DTYPES, help="default: bf16 on CUDA, off on the CPU")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--steps", type=int, help="of one block")
    parser.add_argument("--blocks", type=int, default=12)
    parser.add_argument("--workers", type=int, default=min(8, os.cpu_count() or 1))
    arguments = parser.parse_args()
    device = find_device(arguments.device).type
    is_cuda = device == "cuda"
    config = Config(
        dataset="synthetic",
        samples_per_class=1000,
        model="vgg13",
        alpha=0.5,
        lr=1e-3,
        width=1.0,
        batch_size=arguments.batch_size,
        steps=10**6,
        augment=True,
        device=device,
        amp=arguments.amp or ("bf16" if is_cuda else "off"),
        compile=arguments.compile,
    )
    n_steps = arguments.steps or (100 if is_cuda else 2)
    times = measure(config, n_steps=n_steps, n_blocks=arguments.blocks, n_workers=arguments.workers)
    result = summarize(times, config)
    name = torch.cuda.get_device_name() if is_cuda else platform.machine()
    about = {
        "machine": name,
        "threads": torch.get_num_threads(),
        "workers": arguments.workers,
        "torch": torch.__version__,
        "load": os.getloadavg()[0],
        "batch_size": config.batch_size,
        "amp": config.amp,
        "compile": config.compile,
    }
    for key, value in (about | result).items():
        print(f"{key:<24}{value:,.3f}" if isinstance(value, float) else f"{key:<24}{value}")
    out = Path(__file__).parent / "results" / f"training-{device}.json"
    out.write_text(json.dumps({"about": about, "results": result}, indent=1) + "\n")
    out.with_suffix(".md").write_text(report(about, result), encoding="utf-8")


if __name__ == "__main__":
    main()
