import pytest
import torch

from gradscope.experiments.config import Config
from gradscope.experiments.sweep.estimate import estimate_cost
from gradscope.experiments.training.environment import numerics
from gradscope.experiments.training.loop import train
from gradscope.experiments.training.setup import build_experiment

CONFIG = Config(
    width=0.05, dataset="synthetic", n_classes=4, samples_per_class=40, batch_size=8, steps=40
)


@pytest.mark.parametrize(("model", "steps"), [("vgg13", 40), ("plain", 320)])
def test_the_estimate_is_near_what_recording_takes(tmp_path, model, steps):
    config = CONFIG.replace(model=model, steps=steps)
    with numerics(seed=0, deterministic=False):
        predicted = estimate_cost(build_experiment(config))
    outcome = train(config, tmp_path / "run.h5")
    assert predicted.rows == steps
    assert predicted.bytes == pytest.approx((tmp_path / "run.h5").stat().st_size, rel=0.2)
    assert 0 < predicted.seconds < 20 * outcome.record_seconds


def test_the_estimate_leaves_network_and_random_state_alone():
    with numerics(seed=0, deterministic=False):
        experiment = build_experiment(CONFIG)
        state = {name: t.clone() for name, t in experiment.model.state_dict().items()}
        before = torch.get_rng_state()
        estimate_cost(experiment)
        assert torch.equal(before, torch.get_rng_state())
        assert all(torch.equal(state[k], t) for k, t in experiment.model.state_dict().items())
        assert all(p.grad is None for p in experiment.model.parameters())
