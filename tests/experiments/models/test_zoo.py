import pytest
import torch

from gradscope.errors import DataError, UsageError
from gradscope.experiments.config import Config
from gradscope.experiments.models.registry import build_model


def build(name, shape=(3, 32, 32)):
    with torch.device("meta"):
        return build_model(Config(model=name), sample_shape=shape, n_outputs=7)


@pytest.mark.parametrize("name", ["efficientnet_b0", "vit_b_16", "mobilenet_v3_small"])
def test_torchvisions_models_get_a_head_of_our_size(name):
    logits = build(f"torchvision.{name}")(torch.empty(2, 3, 32, 32, device="meta"))
    assert logits.shape == (2, 7)


def test_a_name_that_torchvision_lacks_is_named_with_its_nearest():
    with pytest.raises(UsageError, match="unknown torchvision model 'vit_b16'; did you mean 'vit"):
        build("torchvision.vit_b16")


def test_models_with_auxiliary_heads_are_refused():
    with pytest.raises(UsageError, match="auxiliary heads"):
        build("torchvision.googlenet")


def test_a_size_that_the_patches_do_not_divide_is_refused():
    with pytest.raises(DataError, match="cannot take images of 40 x 40"):
        build("torchvision.vit_b_16", (3, 40, 40))
