"""Any classification model of torchvision by its name, without weights, with a head of our size."""

from __future__ import annotations

from typing import Any

from torch import nn

from gradscope.errors import DataError, UsageError, imports_of_extra, unknown
from gradscope.experiments.config import Config

PREFIX = "torchvision."


def build(config: Config, *, sample_shape: tuple[int, ...], n_outputs: int) -> nn.Module:
    """Build ``torchvision.NAME``, such as ``torchvision.efficientnet_b0``.

    Raises
    ------
    UsageError
        If torchvision has no such model, or it returns more than logits while it trains.
    DataError
        If the model cannot take images of this shape.
    """
    with imports_of_extra("experiments"):
        from torchvision import models

    name = config.model.removeprefix(PREFIX)
    names = models.list_models(module=models)
    if name not in names:
        raise UsageError(unknown("torchvision model", name, names))
    if name in ("googlenet", "inception_v3"):
        raise UsageError(f"{config.model} trains with auxiliary heads, which is not supported")
    channels, height, width = sample_shape
    if channels != 3 or height != width:
        raise DataError(f"{config.model} needs square images of three channels; got {sample_shape}")
    options: dict[str, Any] = {"weights": None, "num_classes": n_outputs}
    if "vit" in name:
        options["image_size"] = height
    try:
        model: nn.Module = models.get_model(name, **options)
        return model
    except (ValueError, RuntimeError, AssertionError) as error:
        raise DataError(
            f"{config.model} cannot take images of {height} x {height}: {error}"
        ) from error
