import pytest
import torch
from torch import nn

from gradscope.errors import UsageError
from gradscope.experiments.config import Config
from gradscope.experiments.models.resnet import NAMES, PaddedShortcut, build


def make(**options):
    return build(Config(width=0.25, **options), sample_shape=(3, 32, 32), n_outputs=4)


@pytest.mark.parametrize("name", NAMES)
def test_without_skips_only_the_projections_are_missing(name):
    full, plain = make(model=name), make(model=name, skip=False)
    kept = {k for k in full.state_dict() if ".shortcut." not in k}
    assert set(plain.state_dict()) == kept


def test_skips_carry_the_input():
    block = make(model="resnet20").blocks[0].eval()
    nn.init.zeros_(block.conv2.weight)
    images = torch.rand(2, 4, 8, 8)
    assert torch.equal(block(images), images)
    block = make(model="resnet20", skip=False).blocks[0].eval()
    nn.init.zeros_(block.conv2.weight)
    assert not block(images).any()


def test_the_padded_shortcut_halves_the_image_and_adds_zero_channels():
    images = torch.rand(1, 2, 4, 4)
    out = PaddedShortcut(2)(images)
    assert out.shape == (1, 4, 2, 2)
    assert torch.equal(out[:, 1:3], images[:, :, ::2, ::2])
    assert not out[:, [0, 3]].any()


def test_batch_norm_cannot_be_left_out():
    with pytest.raises(UsageError, match="always has batch norm"):
        make(model="resnet20", batch_norm=False)
