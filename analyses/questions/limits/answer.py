"""What the measured tables say of the limits of alpha: exploratory numbers only."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from analyses.measures.seeds import explore, slopes_over_columns, wide
from analyses.questions.accumulation.intervals import means
from analyses.study.question import Answer, Explored, Tables

QUANTITIES = ("boundary", "line", "scalar_line", "distance", "scalar_distance")
ENDS = ("not finite", "stuck", "trains")


def answer(tables: Tables, scale: str) -> Answer:
    """Conclude from the measured tables.

    Parameters
    ----------
    tables : mapping of str to DataFrame
        As `analyses.questions.limits.measure.measure` gives them.
    scale : str

    Returns
    -------
    Answer
        Without evidence on any claim.
    """
    edges = boundaries(tables["runs"], tables["lines"])
    ends = ends_beyond(tables["runs"])
    parts = [means(edges, ["net", "alpha"], name).assign(quantity=name) for name in QUANTITIES]
    shares = [means(ends, ["net", "alpha"], name).assign(end=name) for name in ENDS]
    found = [*_line(edges), *_ends(ends), *_distances(edges), *_batch_norm(edges)]
    return Answer(
        question="alpha_limits",
        scale=scale,
        evidence={},
        explored=tuple(one for one in found if one is not None),
        tables={
            "boundaries": edges,
            "boundary_means": pd.concat(parts, ignore_index=True),
            "end_means": pd.concat(shares, ignore_index=True),
            "map": _map(tables["runs"]),
        },
        notes=tuple(_notes(tables["runs"], edges)),
    )


def boundaries(runs: pd.DataFrame, lines: pd.DataFrame) -> pd.DataFrame:
    """Return, by network, alpha and seed, log10 of the boundary and its distance from the lines.

    The boundary is halfway, in the logarithm, between the smallest unstable learning rate and the
    one below it; nan where either was not run.
    """
    keys, rows = ["net", "alpha", "seed"], []
    for (net, alpha, seed), own in runs.groupby(keys, sort=True):
        places = np.log10(np.sort(own["lr"].to_numpy()))
        unstable = np.flatnonzero(own.sort_values("lr")["is_unstable"].to_numpy(dtype=bool))
        at = int(unstable[0]) if unstable.size else len(places)
        is_inside = 0 < at < len(places)
        rows.append(
            {
                "net": net,
                "alpha": alpha,
                "seed": seed,
                "boundary": places[at - 1 : at + 1].mean() if is_inside else np.nan,
                "censored": "" if is_inside else "all unstable" if at == 0 else "all stable",
            }
        )
    edges = pd.DataFrame(rows).merge(lines.drop_duplicates(keys), on=keys, how="left")
    edges["distance"] = edges["boundary"] - edges["line"]
    edges["scalar_distance"] = edges["boundary"] - edges["scalar_line"]
    names = [*keys, "boundary", "censored", *QUANTITIES[1:]]
    return edges[names]


def ends_beyond(runs: pd.DataFrame) -> pd.DataFrame:
    """Return how unstable runs ended: shares by network, alpha and seed."""
    unstable = runs[runs["is_unstable"].astype(bool)]
    counts = unstable.groupby(["net", "alpha", "seed"])["end"].value_counts(normalize=True)
    table = counts.unstack("end", fill_value=0.0).reindex(columns=list(ENDS), fill_value=0.0)
    return table.reset_index().rename_axis(columns=None)


def _map(runs: pd.DataFrame) -> pd.DataFrame:
    """Return one row a cell of the map: share of unstable runs, and of each end."""
    cells = runs.assign(**{end: (runs["end"] == end).astype(float) for end in ENDS})
    cells["unstable"] = cells["is_unstable"].astype(float)
    columns = ["unstable", *ENDS]
    return cells.groupby(["net", "alpha", "lr"], as_index=False)[columns].mean()


def _line(edges: pd.DataFrame) -> Iterator[Explored | None]:
    """L1: slopes over alpha, and the distance of the boundary from both lines."""
    for net, own in edges.groupby("net"):
        slopes = {
            name: pd.Series(slopes_over_columns(table), table.index)
            for name in ("boundary", "line", "scalar_line")
            if len(table := wide(own.dropna(), "alpha", name)) and table.shape[1] >= 3
        }
        if len(slopes) < 3:
            continue
        unit = "decades of lr per unit of alpha"
        yield explore("L1", f"slope of the boundary over alpha, {net}", slopes["boundary"], unit)
        for name, words in (("line", "the line"), ("scalar_line", "the line of one number")):
            yield explore(
                "L1",
                f"slope of the boundary over alpha less that of {words}, {net}",
                slopes["boundary"] - slopes[name],
                unit,
            )
        spread = [
            own.groupby("seed")[name].apply(lambda d: float(np.sqrt((d**2).mean())))
            for name in ("distance", "scalar_distance")
        ]
        for words, values in zip(("the line", "the line of one number"), spread, strict=True):
            text = f"RMS distance of the boundary from {words}, {net}"
            yield explore("L1", text, values, "decades of lr", "grid of half decades")
        yield explore(
            "L1",
            f"RMS distance from the line less that from the line of one number, {net}",
            spread[0] - spread[1],
            "decades of lr",
        )


def _ends(ends: pd.DataFrame) -> Iterator[Explored | None]:
    """L2: how unstable runs end on either side of alpha = 0."""
    for net, own in ends.groupby("net"):
        sides = {
            words: own[pick].groupby("seed")[list(ENDS)].mean()
            for words, pick in (("below", own["alpha"] < 0), ("above", own["alpha"] > 0))
        }
        for end in ("not finite", "trains"):
            for words, side in sides.items():
                yield explore(
                    "L2",
                    f"share of unstable runs that end {_words(end)}, alpha {words} 0, {net}",
                    side[end],
                    "share",
                )
            yield explore(
                "L2",
                f"share of unstable runs that end {_words(end)}, alpha below 0 less above, {net}",
                (sides["below"] - sides["above"])[end],
                "share",
            )


def _words(end: str) -> str:
    return "with a loss below 0.95 of guessing" if end == "trains" else end


def _distances(edges: pd.DataFrame) -> Iterator[Explored | None]:
    """L3: distance from the line, alpha by alpha, and on either side of 0."""
    for net, own in edges.groupby("net"):
        for alpha, at in own.groupby("alpha"):
            yield explore(
                "L3",
                f"boundary less the line at alpha {alpha:g}, {net}",
                at["distance"],
                "decades of lr",
            )
        # Alphas without a boundary are left out, and seeds that lack one of the others: the mean
        # of a range is over the same alphas in all seeds.
        known = own.dropna(subset=["distance"])
        ranges = {
            "alpha below 0": known["alpha"] < 0,
            "alpha from 0 to 0.5": (known["alpha"] >= 0) & (known["alpha"] <= 0.5),
            "alpha above 0.5": known["alpha"] > 0.5,
        }
        by_range = {
            words: wide(known[pick], "alpha", "distance").mean(axis=1)
            for words, pick in ranges.items()
        }
        middle = by_range.pop("alpha from 0 to 0.5")
        for words, values in by_range.items():
            yield explore(
                "L3",
                f"distance from the line, {words} less alpha from 0 to 0.5, {net}",
                values - middle,
                "decades of lr",
            )


def _batch_norm(edges: pd.DataFrame) -> Iterator[Explored | None]:
    """L4: distance from the line with batch norm less that without."""
    distance = edges.set_index(["seed", "alpha", "net"])["distance"].unstack("net")
    if distance.shape[1] == 2:
        # A network without a boundary at an alpha leaves the other without a partner there.
        paired = distance["batch norm"] - distance["no batch norm"]
        yield explore(
            "L4",
            "distance from the line with batch norm less that without, mean over alphas",
            paired.groupby("seed").mean(),
            "decades of lr",
        )


def _notes(runs: pd.DataFrame, edges: pd.DataFrame) -> Iterator[str]:
    yield (
        f"{len(runs)} runs, {runs['seed'].nunique()} seeds; "
        f"{int(runs['is_unstable'].sum())} unstable, "
        f"{int((runs['end'] == 'not finite').sum())} of them not finite"
    )
    for (net, alpha), own in edges[edges["censored"] != ""].groupby(["net", "alpha"]):
        words = ", ".join(f"{n} seeds {w}" for w, n in own["censored"].value_counts().items())
        yield f"no boundary, {net}, alpha {alpha:g}: {words}"
