"""The pipeline in use: made at the first step, and anew when the model changes."""

from __future__ import annotations

import reprlib
from collections.abc import Callable, Mapping
from typing import Any

import torch

from gradscope.errors import UsageError
from gradscope.record.clock import StepClock
from gradscope.record.hooks.activations import Activations
from gradscope.record.model.layers import LayerTable
from gradscope.record.pipeline import Pipeline, Stages


class Tables:
    """Keeps the pipeline for the present table of parameters.

    Parameters
    ----------
    layers : LayerTable
    optimizers : mapping of str to Optimizer
    activations : Activations
        Follows the order of the layers.
    clock : StepClock
    device : torch.device
        Where the model is.

    Attributes
    ----------
    pipeline : Pipeline or None
        None before the first step, and after `release`.
    """

    def __init__(
        self,
        layers: LayerTable,
        optimizers: Mapping[str, torch.optim.Optimizer],
        activations: Activations,
        clock: StepClock,
        device: torch.device,
    ) -> None:
        self._layers = layers
        self._optimizers = optimizers
        self._activations = activations
        self._clock = clock
        self._device = device
        self._resumed: dict[str, Any] = {}
        self._nbytes = 0
        self._first_nonfinite: tuple[int, str] | None = None
        self.pipeline: Pipeline | None = None

    def prepare(
        self, optimizer: torch.optim.Optimizer, stages: Stages, send_all: Callable[[], None]
    ) -> Pipeline:
        """Fix the table at the first step; make it anew when unseen parameters turn up.

        ``send_all`` sends the rows of the table that is given up.
        """
        if self.pipeline is None:
            self.pipeline = self._make(stages)
            self.pipeline.tell_of_shared()
            self.pipeline.tell_of_selection()
            self._apply_resumed()
        elif self.pipeline.table.is_stale(optimizer):
            send_all()
            self.pipeline.close()
            self.pipeline = self._make(stages)
        return self.pipeline

    def captured(self) -> Pipeline:
        """Return the pipeline of a captured CUDA graph.

        Raises
        ------
        UsageError
            If no captured step was seen.
        """
        if self.pipeline is None or not self.pipeline.captured:
            raise UsageError(
                "advance() follows the replay of a CUDA graph that holds a whole step, captured "
                "while this recorder was attached; no such step was captured"
            )
        return self.pipeline

    def _make(self, stages: Stages) -> Pipeline:
        activations, before = self._activations, self.pipeline
        self._layers.arrange()
        pipeline = Pipeline(
            self._layers, self._optimizers, stages, activations.passes, before=before
        )
        if before is not None:
            step, round_ = self._clock.step, self._clock.round
            stages.ranks.begin_window(step, pipeline.window_capacity, round_)
        activations.reindex([layer.module for layer in pipeline.table.layers])
        return pipeline

    def state_dict(self) -> dict[str, Any]:
        """Step, recorded rounds and own second moments, to go on from after a restart."""
        if self._resumed:  # no step since `load_state_dict`
            return dict(self._resumed)
        own = self.pipeline.stepper.own_state() if self.pipeline else {}
        return {**self._clock.state(), "own": own}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from `state_dict`.

        Raises
        ------
        UsageError
            If the state is not one of a recorder.
        """
        numbers, own = _parts_of(state)
        self._clock.resume(numbers["step"], numbers["n_recorded"], numbers["round"])
        self._resumed = {**numbers, "own": own}
        self._apply_resumed()

    def _apply_resumed(self) -> None:
        if self._resumed and self.pipeline is not None:
            self.pipeline.stepper.load_own_state(self._resumed["own"], self._device)
            self._resumed = {}

    @property
    def first_nonfinite(self) -> tuple[int, str] | None:
        """Step and layer of the first non-finite gradient that has arrived."""
        if self.pipeline is None:
            return self._first_nonfinite
        return self.pipeline.delivery.first_nonfinite

    @property
    def nbytes(self) -> int:
        """Memory that recording holds on the device, or held when it ended."""
        return self._nbytes if self.pipeline is None else self.pipeline.nbytes

    def discard(self) -> None:
        """Forget what backward calls added whose gradients were zeroed."""
        if self.pipeline is not None:
            self.pipeline.discard()

    def close(self) -> None:
        """Remove the hooks on the parameters."""
        if self.pipeline is not None:
            self.pipeline.close()

    def release(self) -> None:
        """Let go of the model and of buffers on its device; what can be asked for stays."""
        pipeline, self.pipeline = self.pipeline, None
        if pipeline is not None:
            self._nbytes = pipeline.nbytes
            self._first_nonfinite = pipeline.delivery.first_nonfinite
            self._resumed = {**self._clock.state(), "own": pipeline.stepper.own}
        self._clock.release()


def _parts_of(state: Any) -> tuple[dict[str, int], dict[str, Any]]:
    """Return the numbers of a state, and its moments: none where recording had stopped."""
    try:
        numbers = {name: int(state[name]) for name in ("step", "n_recorded")}
        numbers["round"] = int(state.get("round", numbers["step"]))
        own = {name: (v, step) for name, (v, step) in state.get("own", {}).items()}
    except (LookupError, TypeError, ValueError, AttributeError):
        raise UsageError(
            "recorder.load_state_dict needs what recorder.state_dict() returned: step, n_recorded "
            f"and own; got {reprlib.repr(state)}"
        ) from None
    return numbers, own
