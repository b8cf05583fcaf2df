"""What folders and archives of images have in common: one image, and the classes of two splits."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import IO

import numpy as np

from gradscope.errors import DataError


def check_classes(train: Sequence[str], test: Sequence[str], test_folder: str) -> None:
    """Refuse test images whose classes are not those of the training images.

    Raises
    ------
    DataError
        If a class is missing on either side; names them.
    """
    missing, surplus = sorted(set(train) - set(test)), sorted(set(test) - set(train))
    if missing or surplus:
        parts = (("missing", missing), ("not in training", surplus))
        words = "; ".join(f"{word}: {', '.join(names)}" for word, names in parts if names)
        raise DataError(f"classes of {test_folder} differ from the training classes ({words})")


def read_image(source: Path | IO[bytes], *, size: int, name: str | None = None) -> np.ndarray:
    """Read an image as RGB; one of another size is scaled to fill the square and cut at its centre.

    Parameters
    ----------
    source : Path or binary file
    size : int
        Side of the square in pixels.
    name : str, optional
        Of the image in error messages; by default its path.

    Returns
    -------
    ndarray of uint8, shape (size, size, 3)

    Raises
    ------
    DataError
        If the file is no image or is damaged; names it.
    """
    from PIL import Image, ImageOps

    try:
        with Image.open(source) as image:
            rgb = image.convert("RGB")
            fitted = rgb if rgb.size == (size, size) else ImageOps.fit(rgb, (size, size))
            return np.asarray(fitted)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(f"{name or source} cannot be read as an image: {error}") from error
