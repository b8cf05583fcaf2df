"""Construction of an experiment from its configuration: data, network, optimizer, length."""

from __future__ import annotations

import dataclasses
import itertools
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from gradscope.errors import UsageError
from gradscope.experiments.config import Config
from gradscope.experiments.datasets.registry import load_dataset
from gradscope.experiments.datasets.splits import Dataset, Split
from gradscope.experiments.models.registry import build_model
from gradscope.experiments.training.batches import (
    Normalise,
    TrainingStream,
    Transform,
    as_symbols,
    in_order,
)
from gradscope.experiments.training.environment import find_device
from gradscope.experiments.training.objectives import Objective, choose_objective
from gradscope.experiments.training.processes import ALONE, Processes
from gradscope.optim.smes import SMES

EVALUATION_BATCH = 500
_AMP_DTYPES = {"off": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Experiment:
    """One run, ready to start.

    Parameters
    ----------
    config : Config
        Resolved: with the data set's defaults and the device in use.
    device : torch.device
    model : nn.Module
    network : nn.Module
        What training calls: the model, compiled where asked, gradients averaged over processes.
    optimizer : SMES
    scaler : torch.amp.GradScaler
        Disabled unless ``amp`` is fp16.
    stream : TrainingStream
        Training batches.
    splits : dict of str to Split
        What is evaluated: ``train`` (a fixed subset, as large as val), ``val``, ``test``.
    normalise : callable
        From stored inputs to what the network takes.
    objective : Objective
        Loss and score of the task.
    n_steps : int
        Optimizer steps of the run.
    processes : Processes
        That train together.
    """

    config: Config
    device: torch.device
    model: nn.Module
    network: nn.Module
    optimizer: SMES
    scaler: torch.amp.GradScaler
    stream: TrainingStream
    splits: dict[str, Split]
    normalise: Transform
    objective: Objective
    n_steps: int
    processes: Processes = ALONE

    def loss(self, inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Return the mean loss, a scalar, and the outputs; under autocast where asked."""
        amp = self.config.amp
        with torch.autocast(self.device.type, dtype=_AMP_DTYPES[amp], enabled=amp != "off"):
            outputs = (self.network if self.model.training else self.model)(inputs)
        return self.objective.loss(outputs, targets), outputs

    @torch.no_grad()
    def evaluate(self, name: str) -> dict[str, float]:
        """Return loss and score on a split, in eval mode, as ``val_loss``, ``val_accuracy``."""
        was_training = self.model.training
        self.model.eval()
        total = torch.zeros(3, dtype=torch.float64, device=self.device)
        split = self.splits[name]
        self.processes.spread_buffers(self.model)
        batches = in_order(split, self.normalise, batch_size=EVALUATION_BATCH)
        own = itertools.islice(batches, self.processes.rank, None, self.processes.size)
        for inputs, targets in own:
            loss, outputs = self.loss(inputs, targets)
            total[0] += loss.double() * targets.numel()
            total[1:] += self.objective.counts(outputs, targets)
        self.model.train(was_training)
        loss_sum, score, n = self.processes.sum(total).tolist()
        return {f"{name}_loss": loss_sum / split.labels.numel(), f"{name}_accuracy": score / n}


def build_experiment(config: Config, processes: Processes = ALONE) -> Experiment:
    """Load the data and build network and optimizer; weights follow torch's random state.

    Parameters
    ----------
    config : Config
    processes : Processes, optional
        That train together, each with its share of each batch.

    Raises
    ------
    UsageError
        If a name or an option cannot be used, or CUDA is asked for and absent.
    DataError
        If the data are missing or damaged.
    """
    device = find_device(config.device)
    config = dataclasses.replace(config.resolved(), device=device.type)
    if config.cuda_graph:
        _check_graph(config, processes)
    dataset = load_dataset(config)
    n_outputs = _count_outputs(config, len(dataset.classes))
    model = build_model(config, sample_shape=dataset.sample_shape, n_outputs=n_outputs)
    # Convolutions are faster so, also on the CPU; the numbers keep their shapes.
    model.to(device).to(memory_format=torch.channels_last)
    train = dataset.train.to(device)
    normalise = _choose_transform(config, dataset, device)
    stream = TrainingStream(
        train,
        normalise,
        batch_size=_given(config.batch_size),
        augment=_given(config.augment),
        seed=config.seed,
        processes=processes,
    )
    return Experiment(
        config=config,
        device=device,
        model=model,
        network=_compiled(processes.wrap(model), config),
        optimizer=_build_optimizer(config, model),
        scaler=torch.amp.GradScaler(device.type, enabled=config.amp == "fp16"),
        stream=stream,
        splits={
            "train": Split(train.images[: len(dataset.val)], train.labels[: len(dataset.val)]),
            "val": dataset.val.to(device),
            "test": dataset.test.to(device),
        },
        normalise=normalise,
        objective=choose_objective(config.dataset),
        n_steps=config.steps or _given(config.epochs) * stream.steps_per_epoch,
        processes=processes,
    )


def _check_graph(config: Config, processes: Processes) -> None:
    reasons = {
        "needs a CUDA device; leave it out on the cpu": config.device != "cuda",
        "and `compile` exclude each other; choose one": config.compile,
        "cannot scale losses; use `amp` bf16 or off": config.amp == "fp16",
        "needs `scope` element and `graft` none": (config.scope, config.graft)
        != ("element", "none"),
        f"is for one process; there are {processes.size}": processes.size > 1,
    }
    for reason, is_so in reasons.items():
        if is_so:
            raise UsageError(f"`cuda_graph` {reason}")


def _compiled(network: nn.Module, config: Config) -> nn.Module:
    # Batches of training are all of one size; evaluation calls the model itself.
    return cast(nn.Module, torch.compile(network, dynamic=False)) if config.compile else network


def _count_outputs(config: Config, n_classes: int) -> int:
    if config.n_outputs is None:
        return n_classes
    if config.n_outputs < n_classes:
        raise UsageError(f"`n_outputs` is {config.n_outputs}, but there are {n_classes} classes")
    return config.n_outputs


def _choose_transform(config: Config, dataset: Dataset, device: torch.device) -> Transform:
    if config.augment and config.dataset == "scenes":
        raise UsageError("`augment` would move images under their boxes; leave it out for scenes")
    if dataset.mean is not None and dataset.std is not None:
        return Normalise(dataset.mean.to(device), dataset.std.to(device))
    if config.augment:
        raise UsageError(f"`augment` is for images; dataset {config.dataset} is made of symbols")
    return as_symbols


def _given(value: Any) -> Any:
    if value is None:
        raise ValueError("the configuration is not resolved; call its `resolved()`")
    return value


def _build_optimizer(config: Config, model: nn.Module) -> SMES:
    return SMES(
        model.parameters(),
        lr=config.lr,
        betas=(config.betas[0], config.betas[1]),
        eps=config.eps,
        weight_decay=config.weight_decay,
        alpha=config.alpha,
        decoupled_weight_decay=config.decoupled_weight_decay,
        scope=config.scope,
        graft=config.graft,
        graft_from=config.graft_from,
        capturable=config.cuda_graph,
    )
