import math

import pytest
import torch

from gradscope.errors import DataError, UsageError
from gradscope.experiments.config import Config
from gradscope.experiments.models.registry import build_model
from gradscope.experiments.models.vit import sines


def make(sample_shape=(3, 8, 8), **options):
    config = Config(model="vit", **{"depth": 2, "units": 16, **options})
    torch.manual_seed(0)
    return build_model(config, sample_shape=sample_shape, n_outputs=5)


def test_patches_are_those_of_the_image_and_every_token_sees_every_other():
    network = make().eval()
    images = torch.randn(1, 3, 8, 8)
    weight, bias = network.patches.weight.flatten(1), network.patches.bias
    # Token 1 is the patch at the top right: rows 0 to 3, columns 4 to 7.
    expected = images[0, :, :4, 4:].flatten() @ weight.T + bias
    torch.testing.assert_close(network.patches(images).flatten(2)[0, :, 1], expected)
    block = network.blocks[0]
    tokens = torch.randn(1, 4, 16)
    changed = tokens.clone()
    changed[0, 3] = torch.randn(16)
    difference = (block(changed) - block(tokens))[0].abs().sum(1)
    assert difference.gt(1e-8).all()


def test_without_positions_the_order_of_patches_does_not_matter():
    network = make().eval()
    network.positions.zero_()
    images = torch.randn(1, 3, 8, 8)
    torch.testing.assert_close(network(images), network(images.roll(4, 3)), atol=1e-6, rtol=1e-5)


def test_positions_tell_rows_from_columns():
    found = sines(2, 3, 8)
    # Patch 4 is row 1, column 1; the second frequency is 1 / 10,000.
    one = [math.sin(1), math.sin(1e-4), math.cos(1), math.cos(1e-4)]
    assert found[4].tolist() == pytest.approx(one + one)
    assert found[2].tolist() == pytest.approx(
        [0, 0, 1, 1, math.sin(2), math.sin(2e-4), math.cos(2), math.cos(2e-4)]
    )


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"n_heads": 3}, UsageError, "`units` must be a multiple of `n_heads`; got 16, 3"),
        ({"units": 6, "n_heads": 2}, UsageError, "`units` of vit must be a multiple of 4; got 6"),
        ({"sample_shape": (3, 10, 8)}, DataError, "multiples of 4; got 10 x 8"),
    ],
)
def test_sizes_that_do_not_fit_are_named(options, error, message):
    with pytest.raises(error, match=message):
        make(**options)
