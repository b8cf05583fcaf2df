"""Tell a training that goes on from the short ones inside it.

Meta-learning makes a new optimizer for every task, and probes train a new head every epoch, beside
an optimizer that goes on stepping. A recording for each of them would fill a folder.
"""

from __future__ import annotations

from gradscope.record.recorder import Recorder

MAX_INNER = 3
"""Trainings that may begin inside one that goes on before further ones are left out."""
TOLD = (
    "new optimizers come and go while that of {} goes on, as in the inner loops of meta-learning: "
    "further ones are not recorded"
)


class InnerLoops:
    """Counts how often a training goes on after another one has begun.

    Attributes
    ----------
    outer : Recorder or None
        The recorder of a training whose inner loops are known as such.
    """

    def __init__(self) -> None:
        self.outer: Recorder | None = None
        self._n_inner: dict[Recorder, int] = {}
        self._has_news: dict[Recorder, bool] = {}

    def see_begin(self, recorder: Recorder) -> None:
        """Note that a training has begun."""
        self._has_news = {**dict.fromkeys(self._has_news, True), recorder: False}

    def see_step(self, recorder: Recorder | None) -> bool:
        """Note a step of a training; return whether it is now known to have inner loops."""
        if recorder is None or not self._has_news.get(recorder):
            return False
        self._has_news[recorder] = False
        self._n_inner[recorder] = self._n_inner.get(recorder, 0) + 1
        if self.outer is None and self._n_inner[recorder] >= MAX_INNER:
            self.outer = recorder
            return True
        return False

    def forget(self, recorder: Recorder) -> None:
        """Let go of a recorder that is closed."""
        self._n_inner.pop(recorder, None)
        self._has_news.pop(recorder, None)
        if self.outer is recorder:
            self.outer = None
