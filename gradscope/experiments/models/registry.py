"""Registry of models; each family is a module in this package."""

from __future__ import annotations

from torch import nn

from gradscope.errors import UsageError, unknown
from gradscope.experiments.config import Config
from gradscope.experiments.datasets.detection import scenes
from gradscope.experiments.models import (
    detector,
    efficientnet,
    plain,
    resnet,
    transformer,
    vgg,
    vit,
    zoo,
)

FAMILIES = (vgg, resnet, efficientnet, vit, plain, transformer, detector)
"""Modules with ``NAMES`` and ``build(config, *, sample_shape, n_outputs)``."""


def model_names() -> tuple[str, ...]:
    """Return the names that `build_model` knows; those of torchvision are more."""
    return tuple(name for family in FAMILIES for name in family.NAMES)


def build_model(config: Config, *, sample_shape: tuple[int, ...], n_outputs: int) -> nn.Module:
    """Build the network that the configuration names.

    Parameters
    ----------
    config : Config
        Names the model and its options.
    sample_shape : tuple of int
        Shape of one input, such as ``(3, 32, 32)``.
    n_outputs : int
        Outputs of the head.

    Raises
    ------
    UsageError
        If no model has that name, or it takes no such inputs.
    """
    config = config.resolved()
    takes_symbols, has_symbols = config.model in transformer.NAMES, len(sample_shape) == 1
    if config.model in model_names() and takes_symbols != has_symbols:
        kinds = {True: "sequences of symbols", False: "images"}
        raise UsageError(
            f"{config.model} takes {kinds[takes_symbols]}, but dataset {config.dataset} has "
            f"{kinds[has_symbols]}"
        )
    if (config.model in detector.NAMES) != (config.dataset in scenes.NAMES):
        raise UsageError(
            f"detector and dataset scenes go together; got {config.model} and {config.dataset}"
        )
    if config.model.startswith(zoo.PREFIX):
        return zoo.build(config, sample_shape=sample_shape, n_outputs=n_outputs)
    for family in FAMILIES:
        if config.model in family.NAMES:
            model: nn.Module = family.build(config, sample_shape=sample_shape, n_outputs=n_outputs)
            return model
    raise UsageError(unknown("model", config.model, (*model_names(), f"{zoo.PREFIX}NAME")))
