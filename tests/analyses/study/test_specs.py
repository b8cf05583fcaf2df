from pathlib import Path

import pytest

from gradscope.experiments.sweep.grid import read_sweep

SPECS = sorted((Path(__file__).parents[3] / "analyses/specs").glob("*.toml"))
ALPHAS = [-0.3, -0.25, -0.2, -0.15, -0.1, -0.05, 0.0, 0.05, 0.1]


@pytest.mark.parametrize("path", SPECS, ids=lambda path: path.stem)
@pytest.mark.parametrize("scale", [None, "smoke", "cpu", "short"])
def test_every_spec_can_be_planned_at_every_scale(path, scale):
    sweep = read_sweep(path, scale=scale)
    configs = [run.config for run in sweep.plan({})]
    small = scale in ("smoke", "cpu")
    assert {config.dataset for config in configs} <= (
        {"digits", "synthetic"} if small else {"cifar10", "cifar100"}
    )
    if scale is None and path.stem.startswith(("alpha-", "baseline-", "tuned-")):
        assert {(c.epochs, c.batch_size, c.lr_milestones) for c in configs} == {
            (150, 128, (30, 60, 90))
        }
    if path.stem.startswith("alpha-"):
        assert sorted({config.alpha for config in configs}) == ALPHAS


def test_the_papers_networks_and_data_are_there():
    wanted = {f"alpha-vgg{n}-cifar{c}" for n in (13, 16, 19) for c in (10, 100)}
    assert wanted <= {path.stem for path in SPECS}
