"""The commands of the store as a user types them."""

import shutil

import h5py
import numpy as np
import pytest

from gradscope.cli.files.export import put
from gradscope.cli.files.tail import sparkline
from gradscope.cli.main import main
from gradscope.store.format.segments import part_folder
from gradscope.store.write.writer import RecordingWriter
from tests.helpers import root_attributes, synthetic_columns, write_recording


@pytest.fixture
def writer(tmp_path):
    columns, params, layers = synthetic_columns(12, 4)
    columns["gradients"]["grad_nonfinite"][:] = 0
    writer = RecordingWriter(tmp_path / "run.h5", root_attributes(12))
    writer.set_axis("param", params)
    writer.set_axis("layer", layers)
    for group, rows in columns.items():
        writer.append(group, rows)
    writer.flush(wait=True)
    yield writer
    writer.close()


def test_tail_shows_loss_stages_and_alarms(writer, capsys):
    assert main(["tail", str(writer.path), "--once"]) == 0
    said = capsys.readouterr().out
    assert "step 12 running" in " ".join(said.split())
    for words in ("loss", "val_loss", "grad_norm, stage 0", "no alarms"):
        assert words in said
    writer.append("training", {"step": [13], "loss": [np.nan]})
    writer.flush(wait=True)
    main(["tail", str(writer.path), "--once"])
    said = capsys.readouterr().out
    assert "! non-finite values: the loss is NaN or missing from step 13 on" in said


def test_tail_ends_with_the_run(writer, capsys):
    writer.close()
    assert main(["tail", str(writer.path), "--every", "0.01"]) == 0
    assert "finished" in capsys.readouterr().out
    assert main(["tail", str(writer.path), "--every", "0"]) == 2
    assert "--every must be above 0" in capsys.readouterr().err


def test_tail_says_that_the_writer_is_gone(writer, tmp_path, capsys):
    copy = tmp_path / "killed.h5"
    shutil.copytree(part_folder(writer.path), part_folder(copy))
    main(["tail", str(copy), "--every", "0.01"])
    assert "its writer is gone" in " ".join(capsys.readouterr().out.split())


def test_validate_prints_every_violation_at_once(tmp_path, capsys):
    sound = write_recording(tmp_path / "sound.h5", 5, 2)
    broken = tmp_path / "broken.h5"
    shutil.copy(sound, broken)
    with h5py.File(broken, "a") as file:
        del file.attrs["status"]
        file["gradients/grad_norm"][0, 0] = -1
        file["extra"] = 1
        file["activations/made_up"] = np.ones(5)
        del file["updates/update_norm"].attrs["_FillValue"]
    assert main(["validate", str(sound), str(broken)]) == 1
    said = capsys.readouterr().out
    for words in (
        "sound.h5: sound",
        "broken.h5: 5 violations",
        "root attribute status is missing",
        "/gradients/grad_norm holds values outside 0 to inf",
        "/extra is not declared",
        "/activations/made_up is not declared",
        "/updates/update_norm has no _FillValue",
    ):
        assert words in said


def test_a_signal_share_above_one_is_sound(tmp_path):
    # m_hat = 1, v_hat = 0.1: as after a growth that v, which forgets later, has not followed yet.
    path = write_recording(tmp_path / "grown.h5", 5, 2)
    with h5py.File(path, "a") as file:
        file["second_moments/signal_fraction"][0, 0] = 10.0
    assert main(["validate", str(path)]) == 0
    with h5py.File(path, "a") as file:
        file["second_moments/epsilon_fraction"][0, 0] = 1.5
    assert main(["validate", str(path)]) == 1


def test_repair_makes_the_file_and_refuses_a_living_run(writer, tmp_path, capsys):
    assert main(["repair", str(writer.path)]) == 2
    assert "still being written" in capsys.readouterr().err
    copy = tmp_path / "killed.h5"
    shutil.copytree(part_folder(writer.path), part_folder(copy))
    assert main(["repair", str(copy)]) == 0
    assert "12 rows of training" in capsys.readouterr().out
    assert main(["repair", str(copy)]) == 2
    assert main(["validate", str(copy)]) == 0
    assert main(["repair", str(tmp_path / "nothing.h5")]) == 2


def test_sparkline_of_a_constant_or_empty_series():
    assert sparkline([2, 2]) == "▁▁"
    assert sparkline([]) == ""
    assert sparkline([np.nan]) == "·"


def test_an_export_that_is_interrupted_leaves_nothing_and_keeps_the_old_one(tmp_path):
    target = tmp_path / "run.csv.d"
    target.mkdir()

    def interrupt(new):
        new.mkdir()
        (new / "gradients.csv").touch()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        put(target, ".csv.d", interrupt)
    assert list(tmp_path.iterdir()) == [target]
    put(target, ".csv.d", lambda new: new.write_text("whole"))
    assert target.read_text() == "whole" and list(tmp_path.iterdir()) == [target]
