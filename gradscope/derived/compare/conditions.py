"""Conditions of a comparison: groups of runs that are replicates of each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import xarray as xr

from gradscope.derived.compare.schedules import lr_schedules
from gradscope.errors import UsageError

ENVIRONMENT = (
    "device",
    "torch_version",
    "cuda_version",
    "numpy_version",
    "python_version",
    "creation_library",
    "creation_library_version",
    "git_commit",
)
"""Attributes of the environment. Differences are shown but do not define a condition."""

STORY = ("run_name", "tags", "notes")
"""What users say of a run. Differences are shown but do not define a condition."""

ACCIDENTS = {
    "run",
    "created_at",
    "command",
    "record_bytes",
    "record_seconds",
    "out",
    "status",
    "is_complete",
    "path",
    "config_json",
    "wall_time",
    "cadence",
    "every",
    "recorded_groups",
    "batch_size_source",
    "optimizer_names",
    "stop_reason",
    "first_nonfinite_step",
    "first_nonfinite_layer",
}
"""What differs between runs without being a setting of theirs."""
MAX_NAMED = 6
"""Settings in the name of a condition; more only where fewer cannot tell conditions apart."""
MISSING = "—"
"""A setting that a run does not have."""
_FIRST = ("alpha", "lr", "optimizer_name", "model_name", "dataset_name")


def is_seed(name: str) -> bool:
    """Return whether a setting is a random seed.

    >>> is_seed("seed"), is_seed("data_seed"), is_seed("trainer.seed"), is_seed("alpha")
    (True, True, True, False)
    """
    return name.rpartition(".")[2].endswith("seed")


def along_run(tree: xr.DataTree) -> dict[str, np.ndarray]:
    """Return everything that differs between the runs of a tree, by name."""
    coordinates = tree.dataset.coords
    return {
        str(name): values.values
        for name, values in coordinates.items()
        if values.dims == ("run",) and name not in ACCIDENTS
    }


def differences(tree: xr.DataTree) -> dict[str, np.ndarray]:
    """Return the settings that differ, except seeds, the environment and the users' words.

    A learning rate that changes is told by its schedule.
    """
    found = along_run(tree)
    schedules = lr_schedules(tree)
    if schedules is not None:
        found.pop("lr", None)
        if len(set(schedules.tolist())) > 1:
            found = {"lr": schedules, **found}
    return {
        name: values
        for name, values in found.items()
        if not is_seed(name) and name not in (*ENVIRONMENT, *STORY)
    }


@dataclass(frozen=True, kw_only=True)
class Condition:
    """Runs that are replicates of each other.

    Parameters
    ----------
    name : str
        Settings that distinguish the condition, such as ``"alpha = 0.5"``.
    runs : tuple of int
        Their positions along ``run``.
    seeds : tuple of str
        The seed of each run; empty if it is unknown.
    """

    name: str
    runs: tuple[int, ...]
    seeds: tuple[str, ...]


def conditions_by_setting(tree: xr.DataTree, over: Sequence[str] = ()) -> list[Condition]:
    """Group the runs of a tree into conditions: runs that differ only in their seed.

    Parameters
    ----------
    tree : DataTree
        From `gradscope.open_runs`.
    over : sequence of str
        Group by these settings alone; runs that differ in others are replicates too.

    Returns
    -------
    list of Condition
        In the order of each condition's first run.

    Raises
    ------
    UsageError
        If the tree holds one run, or a setting of ``over`` does not differ.
    """
    if "run" not in tree.dims or tree.sizes["run"] < 2:
        raise UsageError("a comparison needs two runs at least, opened with `open_runs`")
    known = along_run(tree) | differences(tree)
    for name in over:
        if name not in known:
            raise UsageError(f"the runs do not differ in {name!r}; {_what_differs(known)}")
    settings = {name: known[name] for name in over} if over else differences(tree)
    chosen, n_more = telling_settings(settings)
    ending = f", {n_more} more differ" if n_more else ""
    labels = [
        (", ".join(f"{name} = {short(settings[name][run])}" for name in chosen) or "all runs")
        for run in range(tree.sizes["run"])
    ]
    return _conditions(tree, [label + ending for label in labels])


def conditions_by_label(tree: xr.DataTree, labels: Sequence[str]) -> list[Condition]:
    """Group the runs of a tree by a label for each.

    Raises
    ------
    UsageError
        If there are not as many labels as runs.
    """
    if len(labels) != tree.sizes.get("run", 0):
        raise UsageError(f"{len(labels)} labels for {tree.sizes.get('run', 0)} runs")
    return _conditions(tree, list(labels))


def pair_runs(first: Condition, second: Condition) -> tuple[list[tuple[int, int]], str]:
    """Pair the runs of two conditions by seed, the others in the order of seeds; return how.

    A seed pairs two runs if it is known and each condition has it once.
    """
    ones, others = _run_by_seed(first), _run_by_seed(second)
    pairs = [(run, others[seed]) for seed, run in ones.items() if seed in others]
    rest = zip(
        _in_order(first, [one for one, _ in pairs]),
        _in_order(second, [other for _, other in pairs]),
        strict=False,
    )
    n_by_seed = len(pairs)
    pairs += rest
    return pairs, _how(n_by_seed, len(pairs), len(first.runs) + len(second.runs))


def _run_by_seed(condition: Condition) -> dict[str, int]:
    """Return the run of each seed that is known and that one run alone has."""
    return {
        seed: run
        for seed, run in zip(condition.seeds, condition.runs, strict=True)
        if seed and condition.seeds.count(seed) == 1
    }


def _in_order(condition: Condition, paired: list[int]) -> list[int]:
    """Return the runs without a partner yet, in the order of their seeds."""
    seeds = zip(condition.seeds, condition.runs, strict=True)
    order = sorted(seeds, key=lambda one: (len(one[0]), one[0]))
    return [run for _, run in order if run not in paired]


def _how(n_by_seed: int, n_pairs: int, n_runs: int) -> str:
    if n_by_seed == n_pairs:
        words = "paired by seed"
    elif n_by_seed:
        words = f"{n_by_seed} paired by seed, {n_pairs - n_by_seed} in the order of their seeds"
    else:
        words = "paired in order, since the conditions have other seeds"
    left = n_runs - 2 * n_pairs
    return f"{words}; {left} without partner" if left else words


def _conditions(tree: xr.DataTree, labels: list[str]) -> list[Condition]:
    seeds = _seeds(tree)
    places = {label: [run for run, own in enumerate(labels) if own == label] for label in labels}
    return [
        Condition(name=label, runs=tuple(runs), seeds=tuple(seeds[run] for run in runs))
        for label, runs in places.items()
    ]


def _seeds(tree: xr.DataTree) -> list[str]:
    n_runs = tree.sizes["run"]
    if "seed" in tree.dataset.coords and tree.dataset["seed"].dims == ("run",):
        return [_seed_words(value) for value in tree.dataset["seed"].values]
    return [_seed_words(tree.attrs["seed"]) if "seed" in tree.attrs else ""] * n_runs


def _seed_words(seed: object) -> str:
    """Return a seed in all its digits; empty if it is unknown.

    >>> _seed_words(np.float64(123456789)), _seed_words(float("nan"))
    ('123456789', '')
    """
    if isinstance(seed, float | np.floating) and float(seed).is_integer():
        return str(int(seed))  # the seeds of runs of which one has none are floats
    return "" if (words := short(seed)) == MISSING else words


def _what_differs(known: dict[str, np.ndarray]) -> str:
    return f"they differ in: {', '.join(known)}" if known else "they differ in nothing recorded"


def telling_settings(
    settings: dict[str, np.ndarray], most: int = MAX_NAMED
) -> tuple[list[str], int]:
    """Choose the settings that name conditions: every one that differs, but ``most`` of them.

    A setting that only repeats another one is left out. Of many, those come first that distinguish
    the conditions; these are chosen whatever their number.

    Parameters
    ----------
    settings : dict of str to array, (run,)
    most : int

    Returns
    -------
    names : list of str
    n_more : int
        How many more differ.
    """
    ordered = sorted(settings, key=lambda name: _FIRST.index(name) if name in _FIRST else 99)
    needed: list[str] = []
    others: list[str] = []
    told_apart = 1
    partitions: set[tuple[int, ...]] = set()
    for name in ordered:
        values = [str(value) for value in settings[name]]
        partition = tuple(values.index(value) for value in values)
        if partition in partitions:
            continue
        partitions.add(partition)
        columns = [[str(value) for value in settings[n]] for n in (*needed, name)]
        if (more := len(set(zip(*columns, strict=True)))) > told_apart:
            needed.append(name)
            told_apart = more
        else:
            others.append(name)
    n_more = max(len(needed) + len(others) - max(most, len(needed)), 0)
    chosen = [*needed, *others[: len(others) - n_more]]
    return sorted(chosen, key=ordered.index), n_more


def short(value: object) -> str:
    """Format a setting briefly.

    >>> short(np.float64(0.5)), short(np.int64(3)), short(float("nan")), short("vgg13")
    ('0.5', '3', '—', 'vgg13')
    """
    if isinstance(value, float | np.floating):
        return MISSING if np.isnan(value) else f"{value:.8g}"
    return str(value) or MISSING
