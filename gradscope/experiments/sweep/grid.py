"""A sweep: many configurations from one small file, and which of them are to run next.

Pure planning. A grid is planned at once; a tuned arm round by round, from the outcomes so far, so
that a sweep which was killed continues with nothing but its recordings to remember it.
"""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gradscope.errors import UsageError, unknown
from gradscope.experiments.config import CIFAR, Config, read_toml
from gradscope.experiments.sweep.tuning import Point, Tuning

ARMS = ("fixed", "grafted", "tuned")
_KEYS = ("name", "out", "arm", "seeds", "base", "grid", "runs", "scale", "tuning")
_OF_A_SCALE = ("seeds", "grid", "runs", "tuning")


@dataclass(frozen=True)
class Finished:
    """What a recording says of its run: status and last metrics."""

    status: str
    metrics: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Run:
    """One planned run: its configuration and where its recording goes."""

    config: Config
    path: Path


@dataclass(frozen=True)
class Sweep:
    """A sweep as its file says.

    Parameters
    ----------
    name : str
    folder : Path
        Where the recordings go.
    arm : {"fixed", "grafted", "tuned"}
    seeds : tuple of int
        Each cell runs once with each.
    cells : tuple of Config
        What is compared, without seeds.
    varied : tuple of str
        Keys that differ between the cells; they name the files.
    tuning : Tuning or None
        Of the tuned arm.
    """

    name: str
    folder: Path
    arm: str
    seeds: tuple[int, ...]
    cells: tuple[Config, ...]
    varied: tuple[str, ...]
    tuning: Tuning | None = None

    def plan(self, outcomes: Mapping[Path, Finished]) -> list[Run]:
        """Return all runs known by now, finished or not.

        Parameters
        ----------
        outcomes : mapping of Path to Finished
            Runs that ended, by the path of their recording. In a tuned arm later calls know more
            runs; when all that are planned have ended, the sweep is done. A cell with a failed
            trial waits for it.
        """
        if self.tuning is None:
            return [self._run(cell, seed) for cell in self.cells for seed in self.seeds]
        return [run for cell in self.cells for run in self._plan_tuned(cell, self.tuning, outcomes)]

    def _plan_tuned(
        self, cell: Config, tuning: Tuning, outcomes: Mapping[Path, Finished]
    ) -> list[Run]:
        trials, scores = self._search(cell, tuning, outcomes)
        if not _all_ended(trials, outcomes):
            return trials
        chosen = tuning.at(cell, max(scores, key=lambda point: scores[point]))
        return trials + [self._run(chosen, seed) for seed in self.seeds]

    def _search(
        self, cell: Config, tuning: Tuning, outcomes: Mapping[Path, Finished]
    ) -> tuple[list[Run], dict[Point, float]]:
        """Trials known by now, and the scores of all rounds that have ended."""
        trials: list[Run] = []
        scores: dict[Point, float] = {}
        while points := tuning.next_points(scores, has_decay=cell.weight_decay > 0):
            runs = [self._run(tuning.at(cell, point), tuning.seed, "tune") for point in points]
            trials += runs
            if not _all_ended(runs, outcomes):
                break
            for point, run in zip(points, runs, strict=True):
                finished = outcomes[run.path]
                scores[point] = tuning.score(finished.status, finished.metrics)
        return trials, scores

    def cells_at_edge(self, outcomes: Mapping[Path, Finished]) -> list[Config]:
        """Return the cells whose budget ended before all neighbours of their best were tried.

        Their chosen values may not be the best there are; ``trials`` wants to be larger.
        """
        if self.tuning is None:
            return []
        return [cell for cell in self.cells if self._is_at_edge(cell, self.tuning, outcomes)]

    def _is_at_edge(self, cell: Config, tuning: Tuning, outcomes: Mapping[Path, Finished]) -> bool:
        trials, scores = self._search(cell, tuning, outcomes)
        return _all_ended(trials, outcomes) and tuning.is_at_edge(
            scores, has_decay=cell.weight_decay > 0
        )

    def _run(self, cell: Config, seed: int, *words: str) -> Run:
        config = cell.replace(seed=seed)
        tuned = ("lr", "weight_decay") if self.tuning is not None else ()
        keys = dict.fromkeys((*self.varied, *tuned))
        named = [f"{key}{_word(getattr(cell, key))}" for key in keys]
        digest = hashlib.sha256(_changed(config).encode()).hexdigest()[:8]
        name = "-".join([*words, *named, f"s{seed}", digest])
        return Run(config, self.folder / f"{name}.h5")


def _all_ended(runs: list[Run], outcomes: Mapping[Path, Finished]) -> bool:
    """Whether all finished or diverged: a trial that an error stopped has to be run again."""
    return all(run.path in outcomes and outcomes[run.path].status != "failed" for run in runs)


def _changed(config: Config) -> str:
    """Return what is not as by default: a key that a later version adds renames no old run.

    Where the files of CIFAR lie does not count either.
    """
    resolved = config.resolved()
    if resolved.dataset in CIFAR:
        resolved = resolved.replace(data_dir=None)
    fields = {f.name: f.default for f in dataclasses.fields(Config)}
    changed = {k: v for k, default in fields.items() if (v := getattr(resolved, k)) != default}
    return json.dumps(changed, sort_keys=True)


def _word(value: Any) -> str:
    text = f"{value:g}" if isinstance(value, float) else str(value)
    return re.sub(r"[^\w.+-]+", "_", text)


def read_sweep(path: Path, *, scale: str | None = None) -> Sweep:
    """Read a sweep from a TOML file.

    Parameters
    ----------
    path : Path
        ``name``, ``out``, ``arm``, ``seeds`` (numbers, or how many), ``[base]`` with configuration
        keys, ``[grid]`` with lists of them, ``[[runs]]`` with keys of single cells, ``[tuning]``,
        and ``[scale.NAME]`` with keys that replace those of ``[base]``, or ``seeds``, ``grid``,
        ``runs``, ``tuning`` of its own in place of those above. In a tuned arm ``lr`` and
        ``weight_decay`` of a cell are where its search begins: one place for all alphas would
        spend the budget on the way, since alpha changes the size of the step by orders.
    scale : str, optional
        Which ``[scale.NAME]`` is taken.

    Raises
    ------
    UsageError
        If a key or a value cannot be used; names the file.
    """
    values = read_toml(path)
    for key in values:
        if key not in _KEYS:
            raise UsageError(f"{path}: {unknown('key of a sweep', key, _KEYS)}")
    _check_kinds(values, path)
    name, arm = values.get("name", path.stem), values.get("arm", "fixed")
    if arm not in ARMS:
        raise UsageError(f"{path}: {unknown('arm', str(arm), ARMS)}")
    changes = _scaled(values, scale, path)
    values |= {key: changes.pop(key) for key in _OF_A_SCALE if key in changes}
    base = _over(values.get("base", {}), changes)
    if arm == "grafted":
        base = {"graft": "global"} | base
    seeds = _seeds(values.get("seeds", 1), path)
    cells, varied = _cells(base, values.get("grid", {}), values.get("runs", []), path)
    suffix = f"-{scale}" if scale else ""
    folder = Path(values.get("out", f"runs/{name}"))
    return Sweep(
        name=name + suffix,
        folder=folder.with_name(folder.name + suffix),
        arm=arm,
        seeds=seeds,
        cells=cells,
        varied=varied,
        tuning=_tuning(values.get("tuning"), arm, seeds, values.get("grid", {}), path),
    )


def _check_kinds(values: Mapping[str, Any], path: Path) -> None:
    """Refuse a key of a sweep that holds another kind of value."""
    kinds: dict[str, tuple[type, str]] = {
        **dict.fromkeys(("name", "out", "arm"), (str, "text")),
        **dict.fromkeys(("base", "grid", "tuning", "scale"), (dict, "a table")),
        "runs": (list, "tables, as [[runs]]"),
    }
    for key, (kind, words) in kinds.items():
        if key in values and not isinstance(values[key], kind):
            raise UsageError(f"{path}: `{key}` must be {words}; got {values[key]!r}")
    scales = values.get("scale", {}).items()
    for key, own in [*(("runs", own) for own in values.get("runs", [])), *scales]:
        if not isinstance(own, dict):
            raise UsageError(f"{path}: `{key}` must hold tables; got {own!r}")
    for _, own in scales:
        _check_kinds({key: own[key] for key in _OF_A_SCALE if key in own}, path)


def _scaled(values: Mapping[str, Any], scale: str | None, path: Path) -> dict[str, Any]:
    scales = values.get("scale", {})
    if scale is None:
        return {}
    if scale not in scales:
        raise UsageError(f"{path}: {unknown('scale', scale, scales)}")
    return dict(scales[scale])


def _over(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Put changes over the base; ``steps`` displaces ``epochs`` and the other way round."""
    lengths = {"epochs", "steps"}
    displaced = lengths if lengths & set(changes) else set()
    return {key: value for key, value in base.items() if key not in displaced} | dict(changes)


def _seeds(given: Any, path: Path) -> tuple[int, ...]:
    numbers = range(given) if isinstance(given, int) else given
    seeds = tuple(numbers) if isinstance(numbers, Sequence | range) else ()
    if not seeds or len(set(seeds)) < len(seeds) or not all(isinstance(s, int) for s in seeds):
        raise UsageError(f"{path}: `seeds` must be a number or a list of numbers; got {given!r}")
    return seeds


def _cells(
    base: Mapping[str, Any],
    grid: Mapping[str, Any],
    listed: Sequence[Mapping[str, Any]],
    path: Path,
) -> tuple[tuple[Config, ...], tuple[str, ...]]:
    for key, points in grid.items():
        if not isinstance(points, list) or not points:
            raise UsageError(f"{path}: [grid] `{key}` must be a list of values; got {points!r}")
    varied = tuple(dict.fromkeys([*grid, *(key for cell in listed for key in cell)]))
    if "seed" in {*base, *varied}:
        raise UsageError(f"{path}: give `seeds` at the top in place of `seed`")
    cells = [
        Config.from_mapping(
            _over(base, {**cell, **dict(zip(grid, point, strict=True))}), source=str(path)
        )
        for cell in listed or [{}]
        for point in itertools.product(*grid.values())
    ]
    return tuple(dict.fromkeys(cells)), tuple(key.replace("-", "_") for key in varied)


def _tuning(
    given: Any, arm: str, seeds: tuple[int, ...], grid: Mapping[str, Any], path: Path
) -> Tuning | None:
    if arm != "tuned":
        if given is not None:
            raise UsageError(f'{path}: [tuning] needs arm = "tuned"; got {arm!r}')
        return None
    given, known = given or {}, {f.name for f in dataclasses.fields(Tuning)}
    for key in given:
        if key not in known:
            raise UsageError(f"{path}: {unknown('key of [tuning]', key, known)}")
    tuning = Tuning(**given)
    if tuning.seed in seeds:
        raise UsageError(f"{path}: [tuning] seed {tuning.seed} is one of `seeds`; use fresh ones")
    if {"lr", "weight-decay", "weight_decay"} & set(grid):
        raise UsageError(
            f"{path}: a tuned arm chooses lr and weight_decay; leave them out of [grid], and name "
            "in [[runs]] where the search of a cell begins"
        )
    return tuning
