import pytest
import torch

from gradscope.errors import DataError, UsageError
from gradscope.experiments.config import Config
from gradscope.experiments.models.registry import build_model, model_names

# SCIENCE: one linear head, batch norm, convolution biases; 10 and 100 classes.
PARAMETERS = {
    "vgg13": (9_416_010, 9_462_180),
    "vgg16": (14_728_266, 14_774_436),
    "vgg19": (20_040_522, 20_086_692),
    # 11,173,962 and 269,722 / 853,018: the counts of the usual CIFAR codes with shortcuts B and A.
    "resnet18": (11_173_962, 11_173_962 + 90 * 513),
    "resnet20": (269_722, 269_722 + 90 * 65),
    "resnet56": (853_018, 853_018 + 90 * 65),
}


def build(n_outputs=10, **options):
    with torch.device("meta"):
        return build_model(Config(**options), sample_shape=(3, 32, 32), n_outputs=n_outputs)


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameter_counts(name):
    for n_outputs, expected in zip((10, 100), PARAMETERS[name], strict=True):
        network = build(n_outputs, model=name, width=1.0)
        assert sum(p.numel() for p in network.parameters()) == expected


def test_without_batch_norm_no_norm_is_left():
    network = build(batch_norm=False)
    assert not any(isinstance(m, torch.nn.BatchNorm2d) for m in network.modules())


def test_width_scales_every_convolution():
    channels = [
        m.out_channels for m in build(width=0.25).modules() if isinstance(m, torch.nn.Conv2d)
    ]
    assert channels == [16, 16, 32, 32, 64, 64, 128, 128, 128, 128]


def test_an_unknown_model_is_named_with_its_nearest():
    with pytest.raises(UsageError, match="unknown model 'vgg12'; did you mean"):
        build(model="vgg12")


def test_small_images_are_refused():
    with pytest.raises(DataError, match="needs images of 32 x 32"):
        build_model(Config(), sample_shape=(3, 16, 16), n_outputs=10)


@pytest.mark.parametrize("name", sorted({*model_names()} - {"transformer"}))
def test_a_gradient_reaches_every_parameter(name):
    torch.manual_seed(0)
    network = build_model(Config(model=name, width=0.1), sample_shape=(3, 32, 32), n_outputs=5)
    logits = network(torch.randn(4, 3, 32, 32))
    assert logits.shape == (4, 5)
    logits.square().sum().backward()
    assert all(p.grad is not None for p in network.parameters())


def test_models_and_data_of_other_kinds_are_refused():
    with pytest.raises(UsageError, match="vgg13 takes images, but dataset zipf has sequences"):
        build_model(Config(dataset="zipf"), sample_shape=(64,), n_outputs=10)
    with pytest.raises(UsageError, match="transformer takes sequences of symbols, but dataset dig"):
        build_model(Config(model="transformer"), sample_shape=(3, 32, 32), n_outputs=10)
