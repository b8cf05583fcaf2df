"""The recordings that a question looks at: which runs of each spec there are, how they ended."""

from __future__ import annotations

import contextlib
import glob
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from analyses.claims.claim import SCALES
from gradscope.errors import RecordingError, UsageError, unknown
from gradscope.experiments.sweep.state import ENDED, last_metrics
from gradscope.store.format.segments import PART_SUFFIX
from gradscope.store.read.recording import open_recording

if TYPE_CHECKING:
    import xarray as xr

TRIAL = "tune-"
"""File names of a tuned arm's trials begin so."""


def name_of(path: Path) -> str:
    """Return the name of a run: folder and stem of its recording.

    The stem ends in a digest of the configuration, so a run of another configuration has another
    name.

    >>> name_of(Path("runs/study/cifar10-alpha-mini/alpha0-s1-0f.h5"))
    'cifar10-alpha-mini/alpha0-s1-0f'
    """
    return f"{path.parent.name}/{path.stem}"


def is_trial(name: str) -> bool:
    """Whether a run of this name, or stem of its recording, is a trial of a tuned arm.

    >>> is_trial("cifar10-tuned-mini/tune-alpha0-s1000000-0f"), is_trial("alpha0-s1-0f")
    (True, False)
    """
    return name.rpartition("/")[2].startswith(TRIAL)


@dataclass(frozen=True, eq=False)
class RunRecord:
    """One run that ended, by itself or by diverging.

    Parameters
    ----------
    path : Path
        Its recording.
    spec : str
        Stem of the spec in ``analyses/specs`` that planned it.
    config : mapping
        Keys of `gradscope.experiments.config.Config`, resolved; of a recording of other training
        whatever its ``config_json`` holds.
    status : {"finished", "diverged"}
    metrics : mapping of str to float
        The last value of each metric in ``/evaluation``.
    """

    path: Path
    spec: str
    config: Mapping[str, Any]
    status: str
    metrics: Mapping[str, float]

    @property
    def name(self) -> str:
        """Name of the run, for the rows of tables: see `name_of`."""
        return name_of(self.path)

    @property
    def seed(self) -> int:
        """Seed of the run; −1 where it is unknown."""
        return int(self.config.get("seed", -1))

    @property
    def is_diverged(self) -> bool:
        """Whether the run ended in numbers that are not finite."""
        return self.status == "diverged"

    @property
    def is_trial(self) -> bool:
        """Whether the run chose a learning rate, and so is no evidence."""
        return is_trial(self.name)

    @contextlib.contextmanager
    def open(self, *groups: str) -> Iterator[xr.DataTree]:
        """Open the recording for a ``with`` block; only these groups, if any are named."""
        tree = open_recording(self.path, groups=groups or None)
        try:
            yield tree
        finally:
            tree.close()


class Runs:
    """All runs of a question at one scale.

    Parameters
    ----------
    records : sequence of RunRecord
    scale : {"smoke", "cpu", "short", "full"}
    n_left_out : int, default 0
        Runs that an error stopped, or whose recordings have not ended.
    """

    def __init__(self, records: Sequence[RunRecord], scale: str, *, n_left_out: int = 0) -> None:
        if scale not in SCALES:
            raise UsageError(unknown("scale", scale, SCALES))
        self.records = tuple(records)
        self.scale = scale
        self.n_left_out = n_left_out

    def of(self, spec: str) -> list[RunRecord]:
        """Return the runs of a spec, trials of a tuned arm left out, in order of their seeds."""
        return self._sorted(spec, is_trial=False)

    def trials(self, spec: str) -> list[RunRecord]:
        """Return the trials of a spec's tuned arm."""
        return self._sorted(spec, is_trial=True)

    def _sorted(self, spec: str, *, is_trial: bool) -> list[RunRecord]:
        found = [r for r in self.records if r.spec == spec and r.is_trial == is_trial]
        return sorted(found, key=lambda run: (run.seed, run.path.name))


def find_runs(
    patterns: Iterable[str],
    specs: Sequence[str],
    *,
    scale: str | None = None,
    spec: str | None = None,
) -> Runs:
    """Find recordings and tell which spec and scale each belongs to.

    Parameters
    ----------
    patterns : iterable of str
        Recordings, folders of them (looked through to any depth), or glob patterns of either.
    specs : sequence of str
        Specs of the question.
    scale : str, optional
        Take only runs of this scale; by default the only one there is.
    spec : str, optional
        Take every recording as a run of this spec, whatever its folder is called; needs ``scale``.

    Returns
    -------
    Runs

    Raises
    ------
    FileNotFoundError
        If a pattern names nothing.
    UsageError
        If no run, or runs of several scales, were found.

    Notes
    -----
    A sweep writes into ``<spec>-<scale>`` (``<spec>`` at full scale); the folder's name says it.
    """
    if spec is not None and spec not in specs:
        raise UsageError(unknown("spec", spec, specs))
    if spec is not None and scale is None:
        raise UsageError("--spec needs --scale: how large are these runs?")
    paths = list(dict.fromkeys(path for pattern in patterns for path in _recordings(pattern)))
    named = {path: (spec, scale) if spec else _origin(path.parent.name, specs) for path in paths}
    known = {path: origin for path, origin in named.items() if origin is not None}
    scales = {str(own) for _, own in known.values()}
    if scale is None:
        if len(scales) > 1:
            raise UsageError(f"runs of {', '.join(sorted(scales))} were found: choose one --scale")
        scale = next(iter(scales), None)
    chosen = {path: str(own) for path, (own, at) in known.items() if at == scale}
    if scale is None or not chosen:
        raise UsageError(
            f"none of {len(paths)} recordings is of a spec of this question"
            f"{f' at scale {scale}' if scale else ''} ({', '.join(specs)}); "
            "--spec takes them all as runs of one"
        )
    indices = {folder: _index(folder) for folder in {path.parent for path in chosen}}
    records = [
        record
        for path, own in chosen.items()
        if (record := _record(path, own, indices[path.parent].get(path.name))) is not None
    ]
    failed = {
        folder / name
        for folder, rows in indices.items()
        for name, row in rows.items()
        if row["status"] == "failed"
    }
    left_out = (failed | set(chosen)) - {record.path for record in records}
    return Runs(records, scale, n_left_out=len(left_out))


def _recordings(pattern: str) -> list[Path]:
    matches = sorted(glob.glob(pattern, recursive=True))  # noqa: PTH207
    if not matches:
        raise FileNotFoundError(f"no recording or folder matches {pattern}")
    paths = map(Path, matches)
    found = [p for m in paths for p in (sorted(m.rglob("*.h5")) if m.is_dir() else [m])]
    return [path for path in found if not path.parent.name.endswith(PART_SUFFIX)]


def _origin(folder: str, specs: Sequence[str]) -> tuple[str, str] | None:
    """Spec and scale of a folder's runs by its name."""
    if folder in specs:
        return folder, "full"
    spec, _, scale = folder.rpartition("-")
    return (spec, scale) if spec in specs and scale in SCALES else None


def _index(folder: Path) -> dict[str, dict[str, Any]]:
    """Rows of the index that a sweep keeps beside its recordings; empty where there is none."""
    try:
        rows = json.loads((folder / "index.json").read_text(encoding="utf-8"))["runs"]
    except (OSError, ValueError, KeyError):
        return {}
    return {row["path"]: row for row in rows}


def _record(path: Path, spec: str, row: dict[str, Any] | None) -> RunRecord | None:
    """One run from its row of the index, else from its recording; None where it has not ended."""
    if row is not None and row["status"] in ENDED:
        return RunRecord(path, spec, row["config"], row["status"], row["metrics"])
    try:
        tree = open_recording(path, groups=("evaluation",))
    except RecordingError:
        return None
    with tree:
        status = tree.attrs.get("status")
        if status not in ENDED:
            return None
        config = json.loads(tree.attrs.get("config_json") or "{}")
        config.setdefault("seed", tree.attrs.get("seed", -1))
        metrics = last_metrics(tree) if "evaluation" in tree else {}
    return RunRecord(path, spec, config, status, metrics)
