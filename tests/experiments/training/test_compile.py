"""``compile`` changes the speed and not the recording."""

import warnings

import numpy as np
import pytest
import torch

from gradscope.experiments.config import Config
from gradscope.experiments.training.loop import train
from gradscope.store.read.recording import open_recording

TINY = {
    "model": "plain",
    "units": 8,
    "depth": 2,
    "dataset": "synthetic",
    "n_classes": 4,
    "samples_per_class": 40,
    "batch_size": 8,
    "steps": 5,
}


@pytest.fixture(autouse=True)
def fresh_compiler():
    torch.compiler.reset()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own while it traces
        yield
    torch.compiler.reset()


def test_a_compiled_run_records_what_an_eager_one_does(tmp_path):
    for is_compiled in (True, False):
        train(Config(**TINY, compile=is_compiled), tmp_path / f"{is_compiled}.h5")
    compiled, eager = (open_recording(tmp_path / f"{which}.h5") for which in (True, False))
    for group in (
        "training",
        "gradients",
        "second_moments",
        "updates",
        "activations",
        "evaluation",
    ):
        for name in set(eager[group].data_vars) - {"wall_time", "record_time"}:
            np.testing.assert_allclose(
                compiled[group][name], eager[group][name], rtol=1e-3, atol=1e-6, err_msg=name
            )
