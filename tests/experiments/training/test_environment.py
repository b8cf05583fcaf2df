import pytest
import torch

from gradscope.errors import UsageError
from gradscope.experiments.training.environment import find_device, numerics


def test_cuda_is_refused_where_there_is_none(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UsageError, match="no CUDA device; use cpu or auto"):
        find_device("cuda")
    assert find_device("auto") == torch.device("cpu")


def test_torchs_switches_are_put_back():
    before = torch.backends.cudnn.benchmark
    with numerics(seed=0, deterministic=True):
        assert torch.are_deterministic_algorithms_enabled()
    assert not torch.are_deterministic_algorithms_enabled()
    assert torch.backends.cudnn.benchmark == before


def test_the_seed_decides_the_random_numbers():
    def draw(seed):
        with numerics(seed=seed, deterministic=False):
            return torch.rand(3)

    assert torch.equal(draw(3), draw(3))
    assert not torch.equal(draw(3), draw(4))
