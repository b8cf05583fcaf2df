"""What a terminal shows while a run goes on, and how Ctrl-C reaches it."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from gradscope.cli.output import format_bytes
from gradscope.experiments.sweep.estimate import estimate_cost
from gradscope.experiments.training.loop import Progress as Standing
from gradscope.experiments.training.setup import Experiment

PLAIN_SECONDS = 30.0
"""Without a terminal a line appears at each epoch's end, and at least this often."""


class Display:
    """A progress bar in a terminal, plain lines elsewhere; all of it on stderr.

    Parameters
    ----------
    is_quiet : bool
        Show nothing.
    """

    def __init__(self, *, is_quiet: bool) -> None:
        self._console = Console(stderr=True, quiet=is_quiet, highlight=False)
        self._is_quiet = is_quiet
        self._bar = Progress(
            TextColumn("epoch {task.fields[epoch]}"),
            BarColumn(),
            TextColumn("{task.fields[words]}"),
            TimeRemainingColumn(),
            console=self._console,
            disable=is_quiet or not self._console.is_terminal,
        )
        self._task = self._bar.add_task("", epoch="0", words="", start=False)
        self._line_due = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if not self._bar.disable:  # rich may print an empty line even so
            self._bar.stop()

    def start(self, experiment: Experiment) -> None:
        """Say what will be trained and what recording it will cost."""
        if self._is_quiet:
            return
        config, n_params = experiment.config, sum(p.numel() for p in experiment.model.parameters())
        self._console.print(
            f"{config.model} ({n_params:,} parameters) on {config.dataset}, "
            f"{len(experiment.stream.split):,} images; {experiment.n_steps:,} steps of "
            f"{experiment.stream.batch_size} on {experiment.device.type}, alpha {config.alpha:g}, "
            f"lr {config.lr:g}",
            soft_wrap=True,
        )
        if experiment.processes.size == 1:  # a recorder for trial would wait for the others
            self._show_cost(experiment)
        self._bar.start()
        self._bar.start_task(self._task)

    def _show_cost(self, experiment: Experiment) -> None:
        cost = estimate_cost(experiment)
        self._console.print(
            f"recording {cost.rows:,} steps will take about {format_bytes(cost.bytes)} "
            f"and {cost.seconds:.1f} s",
            soft_wrap=True,
        )

    def show(self, standing: Standing) -> None:
        """Show where the run stands."""
        epoch = -(-standing.step // standing.steps_per_epoch)
        n_epochs = -(-standing.n_steps // standing.steps_per_epoch)
        words = (
            f"loss {standing.loss:.3f}, val accuracy {standing.metrics['val_accuracy']:.1%}, "
            f"{standing.images_per_second:,.0f} images/s"
        )
        self._bar.update(
            self._task,
            total=standing.n_steps,
            completed=standing.step,
            epoch=f"{epoch}/{n_epochs}",
            words=words,
        )
        if self._console.is_terminal:
            return
        ends_epoch = standing.step in (epoch * standing.steps_per_epoch, standing.n_steps)
        if ends_epoch or time.monotonic() > self._line_due:
            self._line_due = time.monotonic() + PLAIN_SECONDS
            line = f"epoch {epoch}/{n_epochs}, step {standing.step}/{standing.n_steps}: {words}"
            left = (standing.n_steps - standing.step) * standing.seconds / standing.step
            self._console.print(f"{line}, {left:.0f} s left", soft_wrap=True)


@contextlib.contextmanager
def one_interrupt() -> Iterator[Callable[[], bool]]:
    """Turn the first Ctrl-C into a question that the loop asks; the second one ends the process.

    Yields
    ------
    callable
        Whether Ctrl-C was pressed.
    """
    was_pressed = threading.Event()

    def on_interrupt(signum: int, frame: FrameType | None) -> None:
        was_pressed.set()
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        message = "\nstopping after this step; Ctrl-C again quits at once\n"
        os.write(sys.__stderr__.fileno() if sys.__stderr__ else 2, message.encode())

    if threading.current_thread() is not threading.main_thread():
        yield was_pressed.is_set
        return
    before = signal.signal(signal.SIGINT, on_interrupt)
    try:
        yield was_pressed.is_set
    finally:
        signal.signal(signal.SIGINT, before)
