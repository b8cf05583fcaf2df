"""Other tasks: test loss over alpha with equal and with Zipf frequencies."""

from __future__ import annotations

from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from figures.parts.marks import draw_means, letter
from figures.parts.results import DATA
from gradscope.plots.axes.style import WIDTHS_MM, new_figure

FOLDER = "results/tasks/cpu"
INPUTS = (f"{FOLDER}/outcome_means.csv", f"{FOLDER}/effect_means.csv")
CAPTION = (
    "Test loss over α with equal frequencies (exponent 0) and frequencies by Zipf's law "
    "(exponent 1). Top, a transformer of two blocks on symbols of a Markov chain; bottom, a "
    "detector on scenes of digits; scale cpu, exploratory. Points are means and bars 95 % t "
    "intervals over seeds; marks are set apart. a, b, d, e, Test loss at one learning rate and at "
    "the step size of α = 0. c, f, Effect of α on the test loss (relative to α = 0) at exponent 1 "
    "less that at exponent 0; negative values mean that α is better where frequencies differ. "
    "Losses of both exponents have different floors and are compared by their effects only."
)
TASKS = {"symbols": "symbols", "scenes": "scenes"}
EXPONENTS: dict[float, tuple[str, dict[str, Any]]] = {
    0.0: ("exponent 0", {"color": "C0", "fmt": "o-"}),
    1.0: ("exponent 1", {"color": "C1", "fmt": "s-"}),
}
ARMS = {"fixed": "one learning rate", "grafted": "step size of α = 0"}


def draw() -> Figure:
    """Draw the loss in both arms and the difference of effects, a row a task."""
    outcomes, effects = (pd.read_csv(DATA / path) for path in INPUTS)
    figure = new_figure(WIDTHS_MM["page"], 105)
    grid = figure.subplots(2, 3, sharex=True)
    losses = outcomes[outcomes["quantity"] == "test_loss"]
    for row, (task, name) in zip(grid, TASKS.items(), strict=True):
        for ax, (arm, title) in zip(row, ARMS.items(), strict=False):
            for index, (exponent, (label, style)) in enumerate(EXPONENTS.items()):
                own = losses[(losses["task"] == task) & (losses["zipf"] == exponent)]
                own = own[(own["arm"] == arm) | (own["alpha"] == 0)]
                draw_means(own, "alpha", ax=ax, shift=0.01 * (index - 0.5), label=label, **style)
            ax.set_title(f"{name}, {title}")
            ax.set_ylabel("test loss (nat)")
        for index, (arm, label) in enumerate(ARMS.items()):
            own = effects[(effects["task"] == task) & (effects["arm"] == arm)]
            style = {"color": "0.3", "fmt": "o-", "mfc": ("0.3", "white")[index]}
            shift = 0.01 * (index - 0.5)
            draw_means(own, "alpha", ax=row[2], shift=shift, label=label, **style)
        row[2].axhline(0, color="0.6", linewidth=0.5, zorder=0)
        row[2].set_title(f"{name}, exponent 1 less 0")
        row[2].set_ylabel("effect of α (nat)")
    grid[0, 0].legend()
    grid[0, 2].legend()
    for ax in grid[1]:
        ax.set_xlabel("α")
    letter(list(grid.ravel()))
    return figure
