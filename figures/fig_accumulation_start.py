"""Depth profiles and slopes of several quantities at initialisation and later in training."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from figures.parts.marks import legend_above, letter
from figures.parts.results import DATA
from gradscope.plots.axes.scales import signed
from gradscope.plots.axes.style import WIDTHS_MM, new_figure

FOLDER = "results/accumulation_bias/cpu"
INPUTS = tuple(f"{FOLDER}/{name}.csv" for name in ("profiles", "slopes", "slope_means"))
CAPTION = (
    "Gradients over depth at initialisation and during training, digits, scale cpu. Points and "
    "lines are means over seeds; bars are 95 % t intervals, which in c hardly exceed the "
    "marks. a, RMS output gradient of each layer at the first step of batch-norm VGG at full "
    "width. Lines join the layers of a stage. Open circles (first layer, head) are excluded from "
    "all slopes. b, Plain networks of 20 layers. Dashed lines have the slope known for infinite "
    "width and pass through the mean. c, Slopes within stages at the first step; positive slopes "
    "grow toward the output. The grey band is the margin of claim P1 (0.05 nat per layer). The "
    "sign of the slope depends on the quantity. d, Slope of the output gradient of narrow VGG "
    "(1/16 width) during training at α = 0."
)
NETS = {"vgg13": "C0", "vgg16": "C1", "vgg19": "C2"}
NAMES = {
    "output_grad_rms": "output gradient",
    "grad_rms": "RMS gradient",
    "grad_param_product": "|g| |w|",
    "update_ratio": "update ratio",
}
PHASES = ("start", "1 %", "10 %", "last 10 %")
MARGIN = 0.05


def draw() -> Figure:
    """Draw profiles of networks and controls above, slopes by quantity and by phase below."""
    profiles, slopes, means = (pd.read_csv(DATA / path) for path in INPUTS)
    figure = new_figure(WIDTHS_MM["page"], 110)
    (above, below) = figure.subplots(2, 2)
    networks = profiles[profiles["spec"] == "accumulation-init"]
    controls = profiles[profiles["spec"] == "accumulation-plain"]
    draw_networks(networks, ax=above[0])
    known = slopes[slopes["spec"] == "accumulation-plain"].groupby("net")["known"].first()
    draw_controls(controls, known, ax=above[1])
    draw_quantities(means[means["spec"] == "accumulation-init"], ax=below[0])
    phases = means[means["spec"] == "accumulation-grafting"]
    draw_phases(phases, ax=below[1])
    if phases.empty:
        below[1].clear()
        below[1].set_axis_off()
        below[1].text(0.5, 0.5, "not run yet", ha="center")
    letter([*above, *below])
    for ax, n_columns, n_rows in zip((*above, *below), (4, 2, 3, 2), (3, 3, 1, 1), strict=True):
        legend_above(ax, n_columns=n_columns, n_rows=n_rows)
    return figure


def draw_networks(profiles: pd.DataFrame, *, ax: Axes) -> None:
    """Draw the mean profile of each network, broken between stages."""
    for net, color in NETS.items():
        own = profiles[profiles["net"] == net]
        mean = own.groupby(["depth", "stage", "is_inner"])["output_grad_rms"].mean().reset_index()
        for _, stage in mean[mean["is_inner"]].groupby("stage"):
            ax.plot(stage["depth"], stage["output_grad_rms"], "o-", color=color)
        apart = mean[~mean["is_inner"]]
        ax.plot(apart["depth"], apart["output_grad_rms"], "o", color=color, mfc="none")
        ax.plot([], [], "o-", color=color, label=net.upper())
    ax.plot([], [], "o", color="0.3", mfc="none", label="first layer, head")
    ax.set_xlabel("depth (weight layers)")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.set_ylabel("ln RMS output gradient (nat)")


def draw_controls(profiles: pd.DataFrame, known: pd.Series, *, ax: Axes) -> None:
    """Draw each control from its first inner layer on, with the line of its known slope."""
    for number, (net, own) in enumerate(profiles[profiles["is_inner"]].groupby("net", sort=False)):
        mean = own.groupby("depth")["output_grad_rms"].mean()
        mean -= mean.mean()
        color = f"C{number}"
        ax.plot(
            mean.index,
            mean,
            "o",
            color=color,
            label=f"{net} ({signed(round(known[net], 2) + 0.0, '+.2f')})",
        )
        centred = mean.index - mean.index.to_numpy().mean()
        ax.plot(mean.index, known[net] * centred, "--", color=color)
    ax.plot([], [], "--", color="0.3", label="known slope")
    ax.set_xlabel("depth (weight layers)")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.set_ylabel("ln RMS output gradient\nminus its mean (nat)")


def draw_quantities(means: pd.DataFrame, *, ax: Axes) -> None:
    """Draw the slope of each quantity with its interval, one mark a network."""
    for shift, (net, color) in zip((-0.2, 0.0, 0.2), NETS.items(), strict=True):
        own = means[means["net"] == net].set_index("quantity").loc[list(NAMES)]
        places = [place + shift for place in range(len(NAMES))]
        bars = [own["mean"] - own["low"], own["high"] - own["mean"]]
        ax.errorbar(own["mean"], places, xerr=bars, fmt="o", color=color, label=net.upper())
    ax.axvspan(-MARGIN, MARGIN, color="0.9", zorder=0)
    ax.axvline(0, color="0.6", linewidth=0.5, zorder=0)
    ax.set_yticks(range(len(NAMES)), list(NAMES.values()))
    ax.invert_yaxis()
    ax.set_xlabel("slope at the first step (nat per layer)")


def draw_phases(means: pd.DataFrame, *, ax: Axes) -> None:
    """Draw the slope of the output gradient from phase to phase."""
    own = means[means["quantity"] == "output_grad_rms"]
    for shift, net in ((-0.05, "vgg13"), (0.05, "vgg19")):
        color, rows = NETS[net], own[own["net"] == net].set_index("phase").reindex(PHASES)
        places = [place + shift for place in range(len(PHASES))]
        bars = [rows["mean"] - rows["low"], rows["high"] - rows["mean"]]
        ax.errorbar(places, rows["mean"], yerr=bars, fmt="o-", color=color, label=net.upper())
    ax.axhline(0, color="0.6", linewidth=0.5, zorder=0)
    ax.set_xticks(range(len(PHASES)), list(PHASES))
    ax.set_xlabel("phase of training (share of the steps)")
    ax.set_ylabel("slope of ln RMS output\ngradient (nat per layer)")
