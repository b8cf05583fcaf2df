from pathlib import Path

import pytest

from gradscope.experiments.config import read_toml
from gradscope.experiments.sweep.grid import read_sweep

SPECS = sorted((Path(__file__).parents[3] / "analyses/specs").glob("*.toml"))
ALPHAS = [-0.3, -0.25, -0.2, -0.15, -0.1, -0.05, 0.0, 0.05, 0.1]


CASES = [
    pytest.param(path, scale, id=f"{path.stem}-{scale or 'full'}")
    for path in SPECS
    for scale in (None, *read_toml(path)["scale"])
]


@pytest.mark.parametrize(("path", "scale"), CASES)
def test_every_spec_can_be_planned_at_its_scales(path, scale):
    sweep = read_sweep(path, scale=scale)
    configs = [run.config for run in sweep.plan({})]
    images = {"digits", "synthetic"} if scale in ("smoke", "cpu") else {"cifar10", "cifar100"}
    allowed = {"zipf", "scenes"} if path.stem.startswith("tasks-") else images
    assert {config.dataset for config in configs} <= allowed
    if scale is None and path.stem.startswith(("alpha-vgg", "baseline-", "tuned-")):
        assert {(c.epochs, c.batch_size, c.lr_milestones) for c in configs} == {
            (150, 128, (30, 60, 90))
        }
    if path.stem.startswith("alpha-vgg"):
        assert sorted({config.alpha for config in configs}) == ALPHAS


def test_the_papers_networks_and_data_are_there():
    wanted = {f"alpha-vgg{n}-cifar{c}" for n in (13, 16, 19) for c in (10, 100)}
    assert wanted <= {path.stem for path in SPECS}


def test_mini_is_all_of_cifar_in_under_ten_epochs():
    sweeps = [
        read_sweep(path, scale="mini")
        for path in SPECS
        if path.stem.startswith(("cifar10-", "cifar100-"))
    ]
    configs = [run.config for sweep in sweeps for run in sweep.plan({})]
    assert {c.dataset for c in configs} == {"cifar10", "cifar100"}
    assert all(c.limit_train is None and c.batch_size == 128 and c.epochs < 10 for c in configs)
    (first,) = [sweep for sweep in sweeps if sweep.name == "cifar10-alpha-mini"]
    fixed = {c.alpha for c in first.cells if c.graft == "none"}
    assert {*ALPHAS, 0.25, 0.5} == fixed
    assert {c.alpha for c in first.cells if c.graft == "global"} == fixed - {0.0}
