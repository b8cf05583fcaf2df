"""Images in one NumPy archive with the arrays ``x_train``, ``y_train``, ``x_test``, ``y_test``."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import torch

from gradscope.errors import DataError, UsageError
from gradscope.experiments.config import Config
from gradscope.experiments.datasets.splits import Source, Split

NAMES = ("npz",)
KEYS = ("x_train", "y_train", "x_test", "y_test")


def load(config: Config) -> Source:
    """Load images (n, height, width) or (n, height, width, channels), uint8, and whole labels.

    Raises
    ------
    UsageError
        If ``data_dir`` was not given.
    DataError
        If the file is missing or no archive, an array is missing or of another kind or shape, or
        the classes of training and test differ.
    """
    if config.data_dir is None:
        raise UsageError("dataset npz needs --data-dir FILE.npz, with " + ", ".join(KEYS))
    arrays = _read(Path(config.data_dir))
    names, train_labels = np.unique(arrays["y_train"], return_inverse=True)
    test_names, test_labels = np.unique(arrays["y_test"], return_inverse=True)
    if not np.array_equal(names, test_names):
        raise DataError(
            f"classes of y_test differ from those of y_train: {test_names.tolist()} against "
            f"{names.tolist()}"
        )
    return Source(
        Split(_images(arrays["x_train"], "x_train"), torch.from_numpy(train_labels.ravel())),
        Split(_images(arrays["x_test"], "x_test"), torch.from_numpy(test_labels.ravel())),
        tuple(str(name) for name in names),
    )


def _read(path: Path) -> dict[str, np.ndarray]:
    if not path.is_file():
        raise DataError(f"no file {path}; looked for a .npz with {', '.join(KEYS)}")
    try:
        with np.load(path, allow_pickle=False) as archive:
            missing = [key for key in KEYS if key not in archive]
            if missing:
                raise DataError(f"{path} has no {missing[0]}; it has {', '.join(archive.files)}")
            arrays = {key: archive[key] for key in KEYS}
    except (OSError, ValueError, EOFError, AttributeError, zipfile.BadZipFile) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path} is no .npz archive of plain arrays: {error}") from error
    for part in ("train", "test"):
        labels = arrays[f"y_{part}"]
        if labels.dtype.kind not in "iu" or labels.size != len(arrays[f"x_{part}"]):
            raise DataError(
                f"{path}: y_{part} must be one whole number for each image; got {labels.dtype} "
                f"{labels.shape} for {len(arrays[f'x_{part}'])} images"
            )
    return arrays


def _images(array: np.ndarray, name: str) -> torch.Tensor:
    if array.dtype != np.uint8 or array.ndim not in (3, 4):
        raise DataError(
            f"{name} must be uint8 (n, height, width[, channels]); got {array.dtype} {array.shape}"
        )
    images = torch.from_numpy(array if array.ndim == 4 else array[..., None])
    return images.permute(0, 3, 1, 2).contiguous()
