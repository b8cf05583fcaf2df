import pytest
import torch
from torch import nn

from gradscope.errors import UsageError
from gradscope.experiments.config import Config
from gradscope.experiments.models.efficientnet import SqueezeExcitation, build


def make(**options):
    config = Config(model="efficientnet", width=0.5, **options)
    return build(config, sample_shape=(3, 32, 32), n_outputs=4)


def test_a_gate_of_zero_weights_halves_its_input():
    gate = SqueezeExcitation(8, 2)
    nn.init.zeros_(gate.expand.weight)
    nn.init.zeros_(gate.expand.bias)
    images = torch.rand(2, 8, 4, 4)
    torch.testing.assert_close(gate(images), images / 2)


def test_depthwise_filters_see_one_channel_each_and_skips_join_equal_shapes():
    model = make()
    depthwise = [m for m in model.modules() if isinstance(m, nn.Conv2d) and m.groups > 1]
    assert len(depthwise) == 6 and all(m.weight.shape[1:] == (1, 3, 3) for m in depthwise)
    assert [block.is_added for block in model.blocks] == [True, True, False, True, False, True]
    assert not any(block.is_added for block in make(skip=False).blocks)
    block = model.blocks[0].eval()
    nn.init.zeros_(block.project[0].weight)
    images = torch.rand(2, 8, 8, 8)
    torch.testing.assert_close(block(images), images)
    assert model.blocks(images).shape == (2, 32, 2, 2)


def test_batch_norm_cannot_be_left_out():
    with pytest.raises(UsageError, match="always has batch norm"):
        make(batch_norm=False)
