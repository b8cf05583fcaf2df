"""Handwritten digits that ship inside scikit-learn: real images without a download.

E. Alpaydin, C. Kaynak, *Optical Recognition of Handwritten Digits*, UCI, 1998 (its test half):
1,797 images of 8x8 pixels with 17 grey levels.
"""

from __future__ import annotations

import numpy as np
import torch
from torch.nn.functional import interpolate

from gradscope.errors import imports_of_extra
from gradscope.experiments.config import Config
from gradscope.experiments.datasets.splits import Source, Split, hold_out

NAMES = ("digits",)
TEST_FRACTION = 0.2


def load(config: Config) -> Source:
    """Load the digits, upsampled to 32x32 pixels in three equal channels; a fifth for testing."""
    with imports_of_extra("experiments"):
        from sklearn.datasets import load_digits

    digits = load_digits()
    grey = torch.from_numpy(digits.images).float()[:, None] * (255 / 16)
    large = interpolate(grey, size=(32, 32), mode="bilinear", align_corners=False)
    images = large.round().to(torch.uint8).expand(-1, 3, -1, -1).contiguous()
    everything = Split(images, torch.from_numpy(digits.target.astype(np.int64)))
    train, test = hold_out(digits.target, fraction=TEST_FRACTION)
    return Source(everything.take(train), everything.take(test), tuple("0123456789"))
