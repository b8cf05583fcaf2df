"""Feed sinks from recordings while they are written: what `gradscope record --tensorboard` runs."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import xarray as xr

from gradscope.errors import imports_of_extra, warn
from gradscope.integrations.sinks import TensorBoardSink, WandbSink
from gradscope.store.read.recording import open_recording

SECONDS = 5.0
"""Shortest pause between two looks; one that took longer is followed by a longer pause."""
LONGEST_SHARE = 0.02
"""Share of the time that looking may take."""
LONGEST_END = 120.0
"""Seconds that a program waits at its end for sinks that do not answer."""


class Sink(Protocol):
    """What a feed needs of a sink."""

    def send(self, tree: xr.DataTree) -> int:
        """Send what is new."""

    def close(self) -> None:
        """End."""


MakeSink = Callable[[Path], Sink]


class SinkFeed:
    """Send what is new in recordings, on a thread of its own, until it is closed.

    Parameters
    ----------
    paths : callable of () -> sequence of Path
        The recordings, some of which may not exist yet.
    make_sinks : sequence of callable of Path -> Sink
        Called once for each recording that exists.
    seconds : float
        Pause between two looks.

    Notes
    -----
    A sink that fails is left out from then on, with one warning; training and recording go on. One
    that does not answer is waited for at the end, for two minutes.
    """

    def __init__(
        self,
        paths: Callable[[], Sequence[Path]],
        make_sinks: Sequence[MakeSink],
        *,
        seconds: float = SECONDS,
    ) -> None:
        self._paths, self._makers, self._seconds = paths, make_sinks, seconds
        self._sinks: dict[Path, list[Sink]] = {}
        self._before = {path: _written(path) for path in paths()}
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="gradscope-feed", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        pause = self._seconds
        while not self._is_over.wait(pause):
            begun = time.monotonic()
            self._send()
            pause = max(self._seconds, (time.monotonic() - begun) / LONGEST_SHARE)
        self._send()
        for sink in [sink for own in self._sinks.values() for sink in own]:
            self._guarded(sink.close)

    def _send(self) -> None:
        for path in self._paths():
            if self._before.get(path) and self._before[path] == _written(path):
                continue  # an older recording that is about to be replaced
            try:
                tree = open_recording(path)
            except Exception:  # nothing written yet, or merged meanwhile: the next look finds it
                continue
            with tree:
                if path not in self._sinks:
                    made = [self._guarded(make, path) for make in self._makers]
                    self._sinks[path] = [sink for sink in made if sink is not None]
                for sink in list(self._sinks[path]):
                    if self._guarded(sink.send, tree) is None:
                        self._sinks[path].remove(sink)

    def _guarded(self, work: Callable[..., Any], *arguments: object) -> Any:
        try:
            return work(*arguments)
        except Exception as error:
            words = " ".join(f"{type(error).__name__}: {error}".split())
            warn(f"a sink failed and is left out: {words}")
            return None

    def close(self) -> None:
        """Send what is left, and end every sink."""
        self._is_over.set()
        self._thread.join(LONGEST_END)
        if self._thread.is_alive():
            warn(
                f"a sink has not answered for {LONGEST_END:g} seconds and is left: it may lack the "
                "last values. The recording is whole"
            )


def _written(path: Path) -> int:
    """Return when a finished recording was written; 0 where there is none."""
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0


def tensorboard_sinks(folder: Path) -> MakeSink:
    """Return what makes a TensorBoard sink for a recording: a run in a folder, after its name.

    Raises
    ------
    MissingPackageError
        If tensorboard is not installed.
    """
    with imports_of_extra("tensorboard"):
        import tensorboard  # noqa: F401

    class Events(TensorBoardSink):
        def close(self) -> None:
            self._target.close()

    def make(path: Path) -> Sink:
        from torch.utils.tensorboard import SummaryWriter

        return Events(SummaryWriter(folder / path.stem))

    return make


def wandb_sinks(project: str) -> MakeSink:
    """Return what makes a W&B sink for a recording: a run of its own, with its configuration.

    Raises
    ------
    MissingPackageError
        If wandb is not installed.
    """
    with imports_of_extra("wandb"):
        import importlib.util

        if importlib.util.find_spec("wandb") is None:
            raise ModuleNotFoundError(name="wandb")

    class Run(WandbSink):
        def close(self) -> None:
            self._target.finish()

    def make(path: Path) -> Sink:
        import wandb

        from gradscope.derived.summary import configuration

        with open_recording(path, groups=()) as tree:
            attrs, config = dict(tree.attrs), configuration(tree)
        run = wandb.init(
            project=project,
            name=str(attrs.get("run_name") or path.stem),
            tags=[tag for tag in str(attrs.get("tags", "")).split(", ") if tag],
            notes=str(attrs.get("notes", "")) or None,
            config=config,
            reinit="create_new",  # beside a run of the script's own
        )
        return Run(run)

    return make
