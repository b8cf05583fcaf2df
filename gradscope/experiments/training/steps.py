"""Optimizer steps of the built-in training: eager, or replayed from a CUDA graph."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

from gradscope.experiments.training.lr_schedule import lr_at
from gradscope.experiments.training.setup import Experiment

WARM_UP_STEPS = 3
"""Eager steps before the capture: optimizer state, tables and algorithms are chosen in them."""


def take_step(experiment: Experiment, step: int) -> Tensor:
    """Take the k-th optimizer step on the next batch and return its loss, on the device."""
    for group in experiment.optimizer.param_groups:
        group["lr"] = _lr(experiment, step)
    return descend(experiment, *next(experiment.stream))


def _lr(experiment: Experiment, step: int) -> float:
    return lr_at(
        experiment.config,
        step,
        n_steps=experiment.n_steps,
        steps_per_epoch=experiment.stream.steps_per_epoch,
    )


def descend(experiment: Experiment, inputs: Tensor, targets: Tensor) -> Tensor:
    """Compute loss and gradients of a batch, take the optimizer's step, return the loss."""
    config, optimizer, scaler = experiment.config, experiment.optimizer, experiment.scaler
    optimizer.zero_grad(set_to_none=True)
    loss, _ = experiment.loss(inputs, targets)
    scaler.scale(loss).backward()
    if config.clip_grad_norm is not None:
        scaler.unscale_(optimizer)
        torch.nn.utils.clip_grad_norm_(experiment.model.parameters(), config.clip_grad_norm)
    scaler.step(optimizer)
    scaler.update()
    return loss.detach()


class Graph(Protocol):
    """Interface of a graph that captures a function once and replays it."""

    def warm_up(self, function: Callable[[], Tensor]) -> Tensor:
        """Do the function eagerly, where a capture may follow."""

    def capture(self, function: Callable[[], Tensor]) -> Tensor:
        """Capture the function without executing it; return the outputs that a replay fills."""

    def replay(self) -> None:
        """Execute the captured function."""


class CudaGraph:
    """A `torch.cuda.CUDAGraph` with its warm-up on a stream of its own, as torch asks for."""

    def __init__(self) -> None:
        self._graph = torch.cuda.CUDAGraph()
        self._stream = torch.cuda.Stream()

    def warm_up(self, function: Callable[[], Tensor]) -> Tensor:
        """Do the function eagerly, on the side stream."""
        self._stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._stream):
            result = function()
        torch.cuda.current_stream().wait_stream(self._stream)
        return result

    def capture(self, function: Callable[[], Tensor]) -> Tensor:
        """Capture; torch's own generator takes part, so that dropout differs between replays."""
        with torch.cuda.graph(self._graph, stream=self._stream):
            return function()

    def replay(self) -> None:
        """Launch everything at once."""
        self._graph.replay()


class GraphedStep:
    """Steps of an experiment by replays of one captured step.

    Batches are drawn and augmented outside the graph, by the run's own generator as ever, and
    copied to where the graph reads; the learning rate is a tensor that each step fills anew, since
    a graph keeps the numbers it was captured with.

    Parameters
    ----------
    experiment : Experiment
        Its optimizer is capturable.
    on_replay : callable
        Called after each replay: `gradscope.Recorder.advance` of the recorder that watches.
    graph : Graph
        A new `CudaGraph`.
    """

    def __init__(self, experiment: Experiment, on_replay: Callable[[], None], graph: Graph) -> None:
        self._experiment, self._on_replay, self._graph = experiment, on_replay, graph
        self._n_warm, self._loss = 0, torch.empty(0)
        self._batch: tuple[Tensor, Tensor] | None = None
        for group in experiment.optimizer.param_groups:
            group["lr"] = torch.tensor(float(group["lr"]), device=experiment.device)

    def __call__(self, step: int) -> Tensor:
        """Take the k-th step on the next batch and return its loss, on the device."""
        for group in self._experiment.optimizer.param_groups:
            group["lr"].fill_(_lr(self._experiment, step))
        self._fill(*next(self._experiment.stream))
        if self._n_warm < WARM_UP_STEPS:
            self._n_warm += 1
            return self._graph.warm_up(self._descend)
        if not self._loss.numel():
            # Gradients of the graph are its own: made in its memory, filled at each replay.
            self._experiment.optimizer.zero_grad(set_to_none=True)
            self._loss = self._graph.capture(self._descend)
        self._graph.replay()
        self._on_replay()
        return self._loss.clone()

    def _descend(self) -> Tensor:
        assert self._batch is not None
        return descend(self._experiment, *self._batch)

    def _fill(self, inputs: Tensor, targets: Tensor) -> None:
        """Put a batch where the graph reads; all batches of a run have one shape."""
        if self._batch is None:
            self._batch = torch.empty_like(inputs), torch.empty_like(targets)
        self._batch[0].copy_(inputs)
        self._batch[1].copy_(targets)
