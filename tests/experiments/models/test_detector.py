import pytest
import torch

from gradscope.errors import DataError, UsageError
from gradscope.experiments.config import Config
from gradscope.experiments.models.registry import build_model


def make(sample_shape=(3, 32, 32), **options):
    config = Config(**{"model": "detector", "dataset": "scenes", **options})
    torch.manual_seed(0)
    return build_model(config, sample_shape=sample_shape, n_outputs=10)


def test_shape_and_parameters():
    network = make()
    # Two convolutions and batch norms a stage; 15 outputs a cell.
    count = sum(9 * c * d + 9 * d**2 + 4 * d for c, d in ((3, 16), (16, 32), (32, 64))) + 65 * 15
    assert sum(p.numel() for p in network.parameters()) == count
    outputs = network(torch.randn(2, 3, 32, 32))
    assert outputs.shape == (2, 16, 15)
    outputs.square().sum().backward()
    assert all(p.grad is not None for p in network.parameters())


def test_cells_are_counted_row_by_row():
    network = make().eval()
    images = torch.zeros(1, 3, 32, 32)
    dark = network(images)
    images[..., :8, 24:] = 5.0
    difference = (network(images) - dark).abs().sum(-1)[0]
    # The light falls into the cell at the top right, which is the fourth.
    assert difference.argmax() == 3


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"sample_shape": (3, 36, 32)}, DataError, "detector needs sides that are multiples of 8"),
        ({"model": "vgg13"}, UsageError, "go together; got vgg13 and scenes"),
        ({"dataset": "digits"}, UsageError, "go together; got detector and digits"),
    ],
)
def test_what_does_not_fit_is_named(options, error, message):
    with pytest.raises(error, match=message):
        make(**options)
