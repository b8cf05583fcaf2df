import pytest
import torch

from gradscope.errors import DataError, UsageError
from gradscope.experiments.config import Config
from gradscope.experiments.models.registry import build_model, model_names


def efficientnet(n_outputs):
    """Count by hand: (in, out) of the six blocks, batch norm two a channel, gates with biases."""
    count = 9 * 3 * 16 + 2 * 16
    for c, out in ((16, 16), (16, 16), (16, 32), (32, 32), (32, 64), (64, 64)):
        inner, squeezed = 4 * c, c // 4
        count += c * inner + 2 * inner + 9 * inner + 2 * inner + inner * out + 2 * out
        count += inner * squeezed + squeezed + squeezed * inner + inner
    return count + 64 * 256 + 2 * 256 + 257 * n_outputs


def vit(n_outputs, units=64, depth=4):
    """Patches of 3 x 4 x 4, fixed positions, 12 u^2 + 13 u a block as in GPT-2, last norm, head."""
    blocks = depth * (12 * units**2 + 13 * units)
    return 49 * units + blocks + 2 * units + (units + 1) * n_outputs


def resnet14(n_outputs):
    """Stem and three stages of four 3x3 convolutions, batch norm two a channel, head."""
    count = 9 * 3 * 16 + 2 * 16
    for before, channels in ((16, 16), (16, 32), (32, 64)):
        count += 9 * before * channels + 3 * 9 * channels**2 + 4 * 2 * channels
    return count + 65 * n_outputs


# SCIENCE: one linear head, batch norm, convolution biases; 10 and 100 classes.
PARAMETERS = {
    "vgg13": (9_416_010, 9_462_180),
    "vgg16": (14_728_266, 14_774_436),
    "vgg19": (20_040_522, 20_086_692),
    # 11,173,962 and 269,722 / 853,018: the counts of the usual CIFAR codes with shortcuts B and A.
    "resnet18": (11_173_962, 11_173_962 + 90 * 513),
    "resnet14": (resnet14(10), resnet14(100)),
    "resnet20": (269_722, 269_722 + 90 * 65),
    "resnet56": (853_018, 853_018 + 90 * 65),
    "efficientnet": (efficientnet(10), efficientnet(100)),
    "vit": (vit(10), vit(100)),
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


@pytest.mark.parametrize("name", sorted({*model_names()} - {"transformer", "detector"}))
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
