"""Map of accuracy over alpha and learning rate on CIFAR-10, scale mini."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from figures.parts.maps import draw_alpha_map
from figures.parts.results import DATA

INPUTS = ("results/cifar/mini/map_means.csv",)
CAPTION = (
    "Test accuracy over α and learning rate on CIFAR-10. VGG13 with 1/8 of its channels, all "
    "images, six epochs, means over two seeds, scale mini, exploratory. a, Accuracy (colour) and "
    "measured size of the update (lines: decades of the RMS update of all weights, geometric mean "
    "over the first quarter of the steps). Crosses, cells with diverged runs, which count with "
    "the accuracy of guessing. b, Accuracy against learning rate, one line per α. c, Accuracy "
    "against the measured size of the update, joined in order of the learning rate: networks that "
    "died take steps of any size. If α acted only as a learning rate, these lines would coincide."
)


def draw() -> Figure:
    """Draw the map of CIFAR-10."""
    return draw_alpha_map(pd.read_csv(DATA / INPUTS[0]))
