"""Event files that TensorBoard's own writers made, imported as recordings."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("tensorboard")
from gradscope.cli.main import main
from gradscope.integrations.import_tensorboard import import_events, name_tags
from gradscope.store.maintain.export import export
from gradscope.store.maintain.validate import violations
from gradscope.store.read.recording import open_recording
from tests.helpers import write_recording

torch_tensorboard = pytest.importorskip("torch.utils.tensorboard", exc_type=ImportError)


def write_events(folder, n_steps=5):
    with torch_tensorboard.SummaryWriter(folder) as writer:
        for step in range(n_steps):
            writer.add_scalar("train/loss", 1 / (step + 1), step)
            writer.add_scalar("lr-AdamW/pg1", 0.1, step)
            if step % 2 == 0:
                writer.add_scalar("val/accuracy", step / 10, step)
        writer.add_scalar("train/loss", 99.0, 1)  # written again: the last holds
        writer.add_histogram("weights", np.arange(5), 0)
        writer.add_text("note", "hello")


def test_scalars_keep_their_numbers_and_groups(tmp_path):
    write_events(tmp_path / "events")
    done = import_events(tmp_path / "events", tmp_path / "run.h5")
    assert done.names["train/loss"] == "loss" and done.left_out == ("weights", "note/text_summary")
    assert violations(tmp_path / "run.h5") == []
    with open_recording(tmp_path / "run.h5") as tree:
        training, evaluation = tree["training"].dataset, tree["evaluation"].dataset
        assert training["step"].values.tolist() == [1, 2, 3, 4, 5]  # one more: they began at 0
        np.testing.assert_allclose(training["loss"].values, [1, 99, 1 / 3, 0.25, 0.2], rtol=1e-6)
        np.testing.assert_allclose(training["lr-AdamW.pg1"].values, 0.1, rtol=1e-6)
        assert evaluation["step"].values.tolist() == [1, 3, 5]
        np.testing.assert_allclose(evaluation["val.accuracy"].values, [0, 0.2, 0.4], rtol=1e-6)
        assert (np.diff(training["wall_time"].values) >= 0).all()


def test_what_was_exported_comes_back(tmp_path):
    path = write_recording(tmp_path / "run.h5", 10, 3)
    export(path, tmp_path / "events", "tensorboard")
    import_events(tmp_path / "events", tmp_path / "back.h5")
    with open_recording(path) as tree, open_recording(tmp_path / "back.h5") as back:
        loss = tree["training"].dataset["loss"].values
        np.testing.assert_allclose(back["training"].dataset["loss"].values, loss, rtol=1e-6)


def test_names_are_different_and_none_is_taken():
    names = name_tags(["a/b", "a.b", "step", "param", "5x", "loss", "Loss"])
    assert len(set(names.values())) == 7
    assert names["step"] == "step_" and names["5x"] == "_5x"


def test_the_command_imports_each_run_below_a_folder(tmp_path, capsys):
    write_events(tmp_path / "tb" / "a")
    write_events(tmp_path / "tb" / "b", n_steps=3)
    assert main(["import", str(tmp_path / "tb"), "-o", str(tmp_path / "out")]) == 0
    out = capsys.readouterr().out
    assert f"{tmp_path / 'out' / 'a.h5'}: 5 steps of 3 scalars" in out
    assert "left out, since they are no scalars: note/text_summary, weights" in out
    assert (tmp_path / "out" / "b.h5").exists()
    assert main(["import", str(tmp_path / "tb"), "-o", str(tmp_path / "out")]) == 2
    assert main(["import", str(tmp_path / "tb"), "-o", str(tmp_path / "out"), "--overwrite"]) == 0
    assert main(["import", str(tmp_path / "out")]) == 2
    assert "no event files" in capsys.readouterr().err


def test_an_imported_run_can_be_plotted(tmp_path, capsys):
    write_events(tmp_path / "events")
    assert main(["import", str(tmp_path / "events"), "-o", str(tmp_path / "run.h5")]) == 0
    assert main(["plot", str(tmp_path / "run.h5"), "--kind", "curves"]) == 0
