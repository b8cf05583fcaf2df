"""Map of accuracy over alpha and learning rate, with curves at equal rate and equal step."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from figures.parts.maps import draw_alpha_map
from figures.parts.results import DATA

INPUTS = ("results/balance/cpu/map.csv",)
CAPTION = (
    "Test accuracy over α and learning rate. Narrow VGG13 (1/16 width) on digits, 120 steps, one "
    "seed, scale cpu. a, Accuracy (colour) and measured size of the update (lines: decades of the "
    "RMS update of all weights, geometric mean over the first quarter of the steps). Crosses "
    "would mark diverged runs. b, Accuracy against learning rate, one line per α. c, Accuracy "
    "against the measured size of the update. If α acted only as a learning rate, these lines "
    "would coincide."
)


def draw() -> Figure:
    """Draw the map of digits."""
    return draw_alpha_map(pd.read_csv(DATA / INPUTS[0]))
