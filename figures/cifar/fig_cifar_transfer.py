"""Architecture transfer on CIFAR-10: curves over alpha and depth slopes, scale mini."""

from __future__ import annotations

from matplotlib.figure import Figure

from figures.parts.architectures import draw_architectures, inputs_of

INPUTS = inputs_of("mini")
CAPTION = (
    "Curves over α in five architectures on CIFAR-10: narrow VGG13, ResNet-14 with and without "
    "skips, an EfficientNet-like network and a vision transformer; all images, two epochs, "
    "three seeds, scale mini, exploratory. Points are means and bars 95 % t intervals over seeds, "
    "cut where the axis ends; where all seeds give one value there is no bar, which is no "
    "certainty; marks are set apart. "
    "a, Test accuracy at one learning rate, for each architecture the best of its pilot at α = 0. "
    "b, Test accuracy with the direction of α and the global step size of α = 0. c, Rank "
    "correlation of a seed's curve with those of the other seeds: of VGG13 (filled) and of the "
    "architecture itself (open), which bounds what can be expected; one learning rate. d, Slope "
    "of ln RMS output gradient over the blocks of one resolution at α = 0, at the first step "
    "(filled) and over the second half of the steps (open); negative values mean that gradients "
    "grow toward the input."
)


def draw() -> Figure:
    """Draw accuracy in both arms, the agreement of orders and the depth slopes."""
    return draw_architectures("mini", lowest_rho=-1.05)
