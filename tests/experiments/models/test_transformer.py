import pytest
import torch

from gradscope.errors import UsageError
from gradscope.experiments.config import Config
from gradscope.experiments.models.registry import build_model


def make(**options):
    config = Config(model="transformer", dataset="zipf", **{"depth": 2, "units": 16, **options})
    torch.manual_seed(0)
    return build_model(config, sample_shape=(8,), n_outputs=5)


def test_the_number_of_parameters_is_that_of_gpt_2():
    units, depth, length, n_tokens = 16, 2, 8, 5
    block = 12 * units**2 + 13 * units
    expected = n_tokens * units + length * units + depth * block + 2 * units
    expected += units * n_tokens + n_tokens
    assert sum(p.numel() for p in make().parameters()) == expected


def test_a_position_does_not_see_what_follows():
    network = make().eval()
    tokens = torch.randint(5, (1, 8))
    changed = tokens.clone()
    changed[0, 5] = (changed[0, 5] + 1) % 5
    before, after = network(tokens)[0], network(changed)[0]
    torch.testing.assert_close(before[:5], after[:5])
    assert (before[5:] - after[5:]).abs().sum(1).gt(1e-6).all()


def test_a_gradient_reaches_every_parameter():
    network = make()
    network(torch.randint(5, (2, 8))).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in network.parameters())


def test_heads_must_divide_the_units():
    with pytest.raises(UsageError, match="`units` must be a multiple of `n_heads`; got 16, 3"):
        make(n_heads=3)
