"""Exports hold the numbers of the recording, and leave it as it was."""

import csv
import hashlib
import importlib.util
import os
import sys

import numpy as np
import pytest
import xarray as xr

from gradscope.cli.main import main
from gradscope.errors import MissingPackageError, RecordingExistsError, UsageError
from gradscope.store.maintain.export import export
from gradscope.store.read.recording import open_recording
from gradscope.store.write.writer import RecordingWriter
from tests.helpers import write_recording


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return write_recording(tmp_path_factory.mktemp("export") / "run.h5", 20, 3)


@pytest.fixture(autouse=True)
def untouched(path):
    before = hashlib.sha256(path.read_bytes()).digest(), path.stat().st_mtime_ns
    yield
    assert (hashlib.sha256(path.read_bytes()).digest(), path.stat().st_mtime_ns) == before


def test_netcdf_reads_back_equal(path, tmp_path, capsys):
    assert main(["export", str(path), "--to", "netcdf", "-o", str(tmp_path / "x.nc")]) == 0
    assert "x.nc" in capsys.readouterr().out
    back, tree = xr.open_datatree(tmp_path / "x.nc"), open_recording(path)
    for node in tree.subtree:
        for name, values in node.to_dataset(inherit=False).data_vars.items():
            np.testing.assert_array_equal(back[node.path][name].values, values.values)
    back.close()


def test_csv_has_a_line_a_step_and_parameter(path, tmp_path):
    export(path, tmp_path / "x", "csv")
    gradients = open_recording(path)["gradients"].dataset
    with (tmp_path / "x/gradients.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == gradients["grad_norm"].size
    line = lines[gradients.sizes["param"] * 3 + 2]
    assert line["step"] == "4"
    assert line["param"] == gradients["param"].values[2]
    assert float(line["grad_norm"]) == pytest.approx(gradients["grad_norm"].values[3, 2])
    names = {p.name for p in (tmp_path / "x").iterdir()}
    assert {"training.csv", "training.param_group.csv", "activations.csv"} <= names


@pytest.mark.skipif(importlib.util.find_spec("pyarrow") is None, reason="pyarrow is not installed")
def test_parquet_has_the_tables_of_csv_in_full_precision(path, tmp_path):
    pandas = pytest.importorskip("pandas")
    export(path, tmp_path / "p", "parquet")
    export(path, tmp_path / "c", "csv")
    names = {p.stem for p in (tmp_path / "p").iterdir()}
    assert names == {p.stem for p in (tmp_path / "c").iterdir()}
    frame = pandas.read_parquet(tmp_path / "p/gradients.parquet")
    with open_recording(path) as tree:
        data = tree["gradients"].dataset["grad_norm"].load()
    table = frame.pivot(index="step", columns="param", values="grad_norm")
    np.testing.assert_array_equal(table[data["param"].values].to_numpy(), data.values)


@pytest.mark.skipif(importlib.util.find_spec("zarr") is None, reason="zarr is not installed")
def test_zarr_reads_back_equal(path, tmp_path):
    export(path, tmp_path / "x.zarr", "zarr")
    back = xr.open_datatree(tmp_path / "x.zarr", engine="zarr", consolidated=True)
    expected = open_recording(path)["gradients"]["grad_norm"].values
    np.testing.assert_array_equal(back["gradients"]["grad_norm"].values, expected)


@pytest.mark.skipif(
    importlib.util.find_spec("tensorboard") is None, reason="tensorboard is not installed"
)
def test_tensorboard_has_every_scalar(path, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    export(path, tmp_path / "x", "tensorboard")
    events = EventAccumulator(str(tmp_path / "x"))
    events.Reload()
    points = events.Scalars("training/loss")
    loss = open_recording(path)["training"]["loss"]
    np.testing.assert_allclose([p.value for p in points], loss, rtol=1e-6)
    assert [p.step for p in points] == loss["step"].values.tolist()


@pytest.mark.skipif(
    importlib.util.find_spec("tensorboard") is None, reason="tensorboard is not installed"
)
def test_tensorboard_has_histograms_over_log2_of_the_magnitude(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    writer = RecordingWriter(tmp_path / "run.h5")
    writer.set_axis("param", {"param": ["a", "b"]})
    counts = np.zeros((2, 2, 96), int)
    counts[1, 0, [80, 82]] = [3, 1]  # three in [1, 2), one in [4, 8)
    writer.append("histograms", {"step": [1, 5], "grad_histogram": counts})
    writer.close()
    export(writer.path, tmp_path / "x", "tensorboard")
    events = EventAccumulator(str(tmp_path / "x"))
    events.Reload()
    assert events.Tags()["histograms"] == ["histograms/grad_histogram/a"]
    (point,) = events.Histograms("histograms/grad_histogram/a")
    assert point.step == 5
    found = point.histogram_value
    assert (found.min, found.max, found.num) == (0, 3, 4)
    assert list(found.bucket_limit) == [0, 1, 2, 3]
    assert list(found.bucket) == [0, 3, 0, 1]
    assert found.sum == 3 * 0.5 + 2.5


@pytest.mark.parametrize("package", ["zarr", "tensorboard"])
def test_a_package_that_is_not_there_is_named(path, tmp_path, monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingPackageError, match=rf"pip install 'gradscope\[{package}\]'"):
        export(path, tmp_path / "x", package)
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("to", ["parquet", "tensorboard"])
def test_a_path_that_is_no_text_is_refused_where_a_library_cannot_take_it(path, tmp_path, to):
    with pytest.raises(UsageError, match=f"the library of {to} takes no path"):
        export(path, os.fsdecode(os.fsencode(tmp_path) + b"/odd\xff"), to)


def test_what_exists_is_not_overwritten(path, tmp_path):
    with pytest.raises(RecordingExistsError, match="exists; choose another name"):
        export(path, tmp_path, "csv")
    with pytest.raises(UsageError, match="unknown format 'nectdf'; did you mean 'netcdf'"):
        export(path, tmp_path / "x", "nectdf")
