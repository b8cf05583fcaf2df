"""Configuration of a built-in experiment, as a frozen dataclass.

A `Config` goes into the recording as ``config_json`` and comes back from there, from a TOML file or
from flags. Keys that are left out take the defaults of the data set when the configuration is
resolved; the recording holds the resolved values. Standard library only.
"""

from __future__ import annotations

import dataclasses
import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from gradscope.errors import UsageError, unknown
from gradscope.experiments.training.options import check, option

_DEFAULTS: dict[str, dict[str, Any]] = {
    "digits": {"width": 0.25, "batch_size": 32, "epochs": 8, "augment": False},
    "text": {"batch_size": 64, "epochs": 5, "augment": False},
    "zipf": {"batch_size": 64, "epochs": 5, "augment": False},
    "scenes": {"width": 1.0, "batch_size": 32, "epochs": 10, "augment": False},
    "": {"width": 1.0, "batch_size": 128, "epochs": 30, "augment": True},
}
"""What an option is when it was not given, by data set; "" stands for all others."""

CIFAR = ("cifar10", "cifar100")
"""Data sets whose ``data_dir`` says where their files lie, and not what they are."""

_MODEL_DEFAULTS: dict[str, dict[str, Any]] = {
    "plain": {"depth": 20, "units": 256},
    "transformer": {"depth": 4, "units": 128},
    "vit": {"depth": 4, "units": 64},
}


@dataclass(frozen=True)
class Config:
    """One experiment: model, data, optimizer, length, numerics.

    Each field is a key of a configuration file and, with hyphens, a flag of ``gradscope record``.

    Raises
    ------
    UsageError
        If a value is of the wrong kind, out of range, or contradicts another.
    """

    model: str = option(
        "vgg13",
        "text",
        "vgg13|16|19, resnet14|18|20|56, efficientnet, vit, plain, transformer, detector, "
        "torchvision.NAME",
    )
    batch_norm: bool = option(True, "bool", "batch normalisation (vgg, plain)")
    width: float | None = option(
        None, "float", "factor on all channels of convolutional networks", above=0, high=64
    )
    skip: bool = option(True, "bool", "the skips of resnet and efficientnet")
    depth: int | None = option(
        None, "int", "hidden layers of plain, blocks of transformer and vit", low=1, high=10_000
    )
    units: int | None = option(
        None, "int", "width of plain, transformer and vit", low=1, high=1_000_000
    )
    n_heads: int = option(4, "int", "attention heads of transformer and vit", low=1, high=10_000)
    activation: str = option("relu", "text", "of plain: relu, tanh", choices=("relu", "tanh"))
    gain: float = option(1.0, "float", "factor on plain's initial weights", above=0, high=100)
    bias: bool = option(False, "bool", "biases in plain's layers")
    dataset: str = option(
        "digits", "text", "digits, cifar10|100, folder, npz, synthetic; text, zipf; scenes"
    )
    data_dir: str | None = option(None, "text", "folder, .npz or text file; CIFAR: ./datasets")
    download: bool = option(False, "bool", "fetch CIFAR where its files are absent")
    augment: bool | None = option(None, "bool", "zero-pad by 4, crop, flip (not for digits)")
    image_size: int = option(32, "int", "side in pixels that folder images get", low=8, high=1024)
    val_fraction: float = option(0.1, "float", "share of training data held out", above=0, below=1)
    limit_train: int | None = option(None, "int", "train on this many examples only", low=1)
    data_seed: int = option(0, "int", "of what these draw at random", low=0, high=2**63 - 1)
    keep_classes: tuple[int, ...] = option((), "ints", "classes to keep, as 0,3,5", low=0)
    labels: str = option(
        "fine",
        "text",
        "fine; coarse or binary superclasses (CIFAR-100); random merges",
        choices=("fine", "coarse", "binary", "random"),
    )
    merge_into: int = option(2, "int", "classes that random merges leave", low=2)
    samples_per_class: int | None = option(None, "int", "training examples of a class", low=1)
    imbalance: float = option(1.0, "float", "largest over smallest class", low=1, high=1e6)
    label_noise: float = option(0.0, "float", "share of wrong training labels", low=0, high=1)
    n_outputs: int | None = option(None, "int", "outputs of the head, if not one a class", low=2)
    n_classes: int = option(10, "int", "classes of synthetic, symbols of zipf", low=2, high=100_000)
    snr: float = option(0.1, "float", "signal-to-noise ratio of synthetic", low=0, high=1e6)
    zipf: float = option(1.0, "float", "exponent of frequencies (zipf, scenes)", low=0, high=10)
    n_tokens: int = option(200_000, "int", "length of zipf's series", low=100, high=10**9)
    context: int = option(64, "int", "symbols in a sequence of text, zipf", low=1, high=65_536)
    alpha: float = option(-0.1, "float", "exponent of the second moment", low=-4, high=4)
    lr: float = option(0.1, "float", "learning rate", low=0, high=1e6)
    betas: tuple[float, ...] = option(
        (0.9, 0.999), "floats", "decay of the two moments, as 0.9,0.999", low=0, below=1, length=2
    )
    eps: float = option(1e-8, "float", "added to the denominator", low=0, high=1)
    weight_decay: float = option(5e-4, "float", "strength of the weight decay", low=0, high=100)
    decoupled_weight_decay: bool = option(False, "bool", "decay as in AdamW, outside the moments")
    scope: str = option(
        "element",
        "text",
        "what is raised to alpha: element, tensor, residual, global",
        choices=("element", "tensor", "residual", "global"),
    )
    graft: str = option(
        "none",
        "text",
        "where another step lends its norm: none, global, tensor, profile",
        choices=("none", "global", "tensor", "profile"),
    )
    graft_from: str = option(
        "zero", "text", "step that lends it: zero, alpha", choices=("zero", "alpha")
    )
    clip_grad_norm: float | None = option(None, "float", "largest total gradient norm", above=0)
    lr_schedule: str = option(
        "constant", "text", "constant, step or cosine", choices=("constant", "step", "cosine")
    )
    lr_milestones: tuple[int, ...] = option((), "ints", "epochs of the steps, as 30,60,90", low=1)
    lr_gamma: float = option(0.2, "float", "factor at each milestone", above=0, high=1)
    batch_size: int | None = option(None, "int", "examples in a step", low=1, high=1_000_000)
    epochs: int | None = option(None, "int", "passes over the training split", low=1, high=10**6)
    steps: int | None = option(None, "int", "optimizer steps, not epochs", low=1, high=10**9)
    seed: int = option(0, "int", "of weights, order and augmentation", low=0, high=2**63 - 1)
    device: str = option("auto", "text", "auto, cpu or cuda", choices=("auto", "cpu", "cuda"))
    amp: str = option("off", "text", "autocast: off, bf16, fp16", choices=("off", "bf16", "fp16"))
    compile: bool = option(False, "bool", "train through torch.compile")
    cuda_graph: bool = option(False, "bool", "capture a step once and replay it (CUDA)")
    deterministic: bool = option(False, "bool", "only algorithms that repeat bit for bit")
    every: int | str = option("auto", "cadence", "record each K-th step, or auto", low=1)

    def __post_init__(self) -> None:
        for config_field in dataclasses.fields(self):
            value = check(config_field, getattr(self, config_field.name))
            object.__setattr__(self, config_field.name, value)
        if self.epochs is not None and self.steps is not None:
            raise UsageError("give `epochs` or `steps`, not both")
        if self.lr_schedule == "step" and not self.lr_milestones:
            raise UsageError("`lr_schedule` step needs `lr_milestones`, such as 30,60,90")
        if list(self.lr_milestones) != sorted(set(self.lr_milestones)):
            raise UsageError(f"`lr_milestones` must increase; got {list(self.lr_milestones)}")

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any], *, source: str = "the configuration") -> Self:
        """Build a configuration from named values; hyphens in names count as underscores.

        Raises
        ------
        UsageError
            If a key does not exist or a value cannot be used.
        """
        known = {config_field.name for config_field in dataclasses.fields(cls)}
        named = {key.replace("-", "_"): value for key, value in values.items()}
        for key in named:
            if key not in known:
                raise UsageError(f"{source}: {unknown('configuration key', key, known)}")
        return cls(**named)

    def replace(self, **changes: Any) -> Self:
        """Return a copy with some values changed; ``epochs`` and ``steps`` displace each other."""
        for given, displaced in (("epochs", "steps"), ("steps", "epochs")):
            if changes.get(given) is not None:
                changes.setdefault(displaced, None)
        return dataclasses.replace(self, **changes)

    def resolved(self) -> Self:
        """Return a copy in which what was left out has the default of data set and model."""
        defaults = _DEFAULTS.get(self.dataset, _DEFAULTS[""])
        defaults = defaults | _MODEL_DEFAULTS.get(self.model, {})
        if self.steps is not None:
            defaults = {name: value for name, value in defaults.items() if name != "epochs"}
        missing = {name: value for name, value in defaults.items() if getattr(self, name) is None}
        return dataclasses.replace(self, **missing)

    def to_json(self) -> str:
        """Return the configuration as the text that a recording keeps."""
        return json.dumps(dataclasses.asdict(self))


def read_toml(path: Path) -> dict[str, Any]:
    """Read the keys of a TOML file.

    Raises
    ------
    UsageError
        If the file is no TOML.
    OSError
        If it cannot be read.
    """
    try:
        with path.open("rb") as file:
            return tomllib.load(file)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is no TOML file: {error}") from error


def to_flags(config: Config) -> list[str]:
    """Return the flags of ``gradscope record`` that give this configuration.

    >>> to_flags(Config(alpha=-1e-05, batch_norm=False, betas=(0.5, 0.9)))
    ['--no-batch-norm', '--alpha=-1e-05', '--betas=0.5,0.9']
    """
    flags = []
    for config_field in dataclasses.fields(config):
        value = getattr(config, config_field.name)
        name = config_field.name.replace("_", "-")
        if value == config_field.default or value is None:
            continue
        if isinstance(value, bool):
            flags.append(f"--{name}" if value else f"--no-{name}")
        else:
            listed = value if isinstance(value, tuple) else (value,)
            flags.append(f"--{name}=" + ",".join(map(str, listed)))
    return flags
