"""TensorBoard's own files, read back by TensorBoard; W&B offline."""

from __future__ import annotations

import numpy as np
import pytest

from gradscope.errors import UsageError
from gradscope.integrations.sinks import TensorBoardSink, WandbSink
from tests.helpers import synthetic_recording


def test_tensorboard_gets_each_point_once(tmp_path):
    tensorboard = pytest.importorskip("torch.utils.tensorboard", exc_type=ImportError)
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    with tensorboard.SummaryWriter(tmp_path) as writer:
        sink = TensorBoardSink(writer, ["loss", "grad_norm"], include=r"features\.[03]\.weight")
        assert sink.send(synthetic_recording(4)) == 4 * 3
        whole = synthetic_recording(6)
        assert sink.send(whole) == 2 * 3
        assert sink.send(whole) == 0
    events = EventAccumulator(str(tmp_path)).Reload()
    assert set(events.Tags()["scalars"]) == {
        "gradscope/loss",
        "gradscope/grad_norm/features.0.weight",
        "gradscope/grad_norm/features.3.weight",
    }
    points = events.Scalars("gradscope/grad_norm/features.3.weight")
    assert [p.step for p in points] == [1, 2, 3, 4, 5, 6]
    expected = whole["gradients/grad_norm"].sel(param="features.3.weight").values
    assert points[-1].value == pytest.approx(expected[-1], rel=1e-6)


@pytest.mark.filterwarnings("ignore::Warning")
def test_wandb_offline_has_a_step_axis_of_its_own(tmp_path, monkeypatch):
    wandb = pytest.importorskip("wandb", reason="wandb is not installed")
    monkeypatch.setenv("WANDB_SILENT", "true")
    seen = []
    with wandb.init(mode="offline", dir=tmp_path, project="test") as run:
        log = run.log

        def note(row, **options):
            seen.append(row)
            log(row, **options)

        monkeypatch.setattr(run, "log", note)
        tree = synthetic_recording(3)
        sink = WandbSink(run, ["lr", "update_ratio"], include=r"classifier\.weight")
        assert sink.send(tree) == 3 * 2
    assert [row["gradscope/step"] for row in seen] == [1, 2, 3]
    expected = tree["updates/update_ratio"].sel(param="classifier.weight").values
    got = [row["gradscope/update_ratio/classifier.weight"] for row in seen]
    np.testing.assert_allclose(got, expected)
    assert list(tmp_path.rglob("*.wandb"))


def test_what_is_no_curve_is_refused():
    with pytest.raises(UsageError, match="there is no quantity 'gard_norm' to send"):
        TensorBoardSink(None, ["gard_norm"])
    with pytest.raises(UsageError, match="'grad_histogram' is no curve"):
        TensorBoardSink(None, ["grad_histogram"])
