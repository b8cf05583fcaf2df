"""The lazy tree against plain xarray, and live reading."""

import os
import pickle
import subprocess
import sys
import time
from pathlib import Path

import h5netcdf
import h5py
import numpy as np
import pytest
import xarray as xr
from xarray.backends import CachingFileManager

from gradscope import schema
from gradscope.store.read import lazy
from gradscope.store.read.recording import latest, open_recording
from gradscope.store.write.writer import RecordingWriter
from tests.helpers import write_recording

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return write_recording(tmp_path_factory.mktemp("reader") / "run.h5", 40, 4)


def test_it_is_what_xarray_reads_without_gradscope(path):
    tree, plain = open_recording(path), xr.open_datatree(path)
    assert {n.path for n in tree.subtree} == {n.path for n in plain.subtree}
    nodes = {node.path: node.to_dataset(inherit=False) for node in tree.subtree}
    for node in plain.subtree:
        for name, values in node.to_dataset(inherit=False).variables.items():
            assert nodes[node.path].variables[name].identical(values), name
    assert dict(tree.attrs) == dict(plain.attrs)


def test_h5netcdf_and_h5py_read_it_without_gradscope(path):
    """Names, dimensions, missing values and texts, as another program would take them."""
    tree = open_recording(path)
    with h5netcdf.File(path, "r") as file, h5py.File(path, "r") as plain:
        assert set(file.groups) == set(tree.children)
        for name, group in file.groups.items():
            sizes = {dim: d.size for dim, d in group.dimensions.items()}
            assert sizes == dict(tree[name].sizes)
            for key, variable in group.variables.items():
                declared = schema.GROUPS[name].variables.get(key)
                if declared is not None:
                    assert variable.dimensions == declared.dims
                    assert variable.attrs["long_name"] == declared.attrs["long_name"]
        norms = file["gradients/grad_norm"]
        assert np.isnan(norms.attrs["_FillValue"])
        np.testing.assert_array_equal(norms[...], tree["gradients"]["grad_norm"])
        labels = [label.decode() for label in plain["gradients/param"][()]]
        assert labels == tree["gradients"]["param"].values.tolist()
        assert plain["gradients/grad_norm"].dims[1][0] == plain["gradients/param"]


def test_derived_variables_follow_from_the_stored_ones(path):
    tree = open_recording(path)
    gradients, updates = tree["gradients"].dataset, tree["updates"].dataset
    expected = gradients["grad_norm"] / np.sqrt(gradients["numel"])
    np.testing.assert_allclose(gradients["grad_rms"], expected, rtol=1e-6)
    expected = updates["update_norm"].values / gradients["grad_norm"].values
    np.testing.assert_allclose(updates["effective_lr"], expected, rtol=1e-6)
    moments = tree["second_moments"].dataset
    beta2 = tree["training"].dataset["beta2"].values
    expected = moments["exp_avg_sq_mean"] / (1 - beta2 ** moments["state_step"])
    np.testing.assert_allclose(moments["exp_avg_sq_hat_mean"], expected, rtol=1e-5)
    for group, declared in schema.DERIVED.items():
        for name, variable in declared.items():
            if name in tree[group].dataset:
                assert tree[group][name].attrs == variable.attrs


@pytest.mark.parametrize("name", ["grad_norm", "grad_nonfinite", "grad_rms"])
def test_any_way_of_indexing_gives_what_numpy_gives(path, name):
    lazy = open_recording(path)["gradients"].dataset[name]
    whole = lazy.copy().load().values
    np.testing.assert_array_equal(lazy[5], whole[5])
    np.testing.assert_array_equal(lazy[-3:, 1], whole[-3:, 1])
    np.testing.assert_array_equal(lazy[::-7, [3, 0, 3]], whole[::-7][:, [3, 0, 3]])
    np.testing.assert_array_equal(lazy[2:30:5][[-1, 0]], whole[2:30:5][[-1, 0]])
    np.testing.assert_array_equal(lazy[0:0], whole[0:0])
    step, param = xr.DataArray([1, 2], dims="p"), xr.DataArray([0, 4], dims="p")
    np.testing.assert_array_equal(lazy[step, param], whole[[1, 2], [0, 4]])
    np.testing.assert_array_equal(lazy.sel(step=slice(3, 9)), whole[2:9])


def test_rows_of_groups_with_other_cadence_are_found_by_step(tmp_path):
    writer = RecordingWriter(tmp_path / "run.h5")
    writer.set_axis("param", {"param": ["a"], "numel": [4]})
    writer.append("gradients", {"step": [1, 3, 5], "grad_norm": [[1.0], [3.0], [5.0]]})
    writer.append("updates", {"step": [3, 4, 5], "update_norm": [[30.0], [40.0], [50.0]]})
    writer.close()
    got = open_recording(writer.path)["updates"]["effective_lr"].values[:, 0]
    np.testing.assert_array_equal(got, [10, np.nan, 10])


def test_a_tree_survives_pickling_and_closing(path):
    tree = open_recording(path)
    again = pickle.loads(pickle.dumps(tree))  # noqa: S301
    tree.close()
    xr.testing.assert_equal(again["gradients"].dataset.load(), tree["gradients"].dataset.load())


def test_custom_variables_carry_what_the_user_declared(tmp_path):
    words = {"skew": {"long_name": "skewness of the gradient", "aggregation": "sum"}}
    with RecordingWriter(tmp_path / "run.h5", {"custom_json": words}) as writer:
        writer.set_axis("param", {"param": ["a.weight", "b.weight"]})
        writer.append("custom", {"step": [1, 2], "skew": [[0.5, 1.5], [2.5, np.nan]]})
        writer.append("custom", {"step": [3], "other": [[1.0, 2.0]]})
    with open_recording(tmp_path / "run.h5") as tree:
        skew = tree["custom/skew"]
        assert skew.dims == ("step", "param")
        assert skew.values[1, 0] == 2.5 and np.isnan(skew.values[2]).all()
        assert skew.attrs["long_name"] == "skewness of the gradient"
        assert skew.attrs["aggregation"] == "sum"
        assert "aggregation" not in tree["custom/other"].attrs


def test_only_the_groups_asked_for(path):
    assert list(open_recording(path, groups=("activations",)).children) == ["activations"]


def test_a_tree_opened_live_keeps_its_rows_while_segments_are_merged(tmp_path):
    writer = RecordingWriter(tmp_path / "run.h5")

    def append(step):
        writer.append("training", {"step": [step], "loss": [step / 8]})
        writer.flush(wait=True)

    for step in range(1, 6):
        append(step)
    early = open_recording(writer.path)
    for step in range(6, 20):
        append(step)
    np.testing.assert_array_equal(early["training"]["loss"], np.arange(1, 6) / 8)
    late = open_recording(writer.path)
    writer.close()
    np.testing.assert_array_equal(late["training"]["loss"], np.arange(1, 20) / 8)


def test_a_reader_does_not_keep_the_writer_from_finishing(tmp_path):
    writer = RecordingWriter(tmp_path / "run.h5")
    writer.append("training", {"step": [1], "loss": [1.0]})
    writer.flush(wait=True)
    tree, plain = open_recording(writer.path), xr.open_datatree(tmp_path / "run.h5.part/000001.h5")
    tree.load()
    writer.close()
    assert writer.error is None
    assert not (tmp_path / "run.h5.part").exists()
    plain.close()


def test_latest_is_the_one_written_last_running_or_not(tmp_path):
    for i, name in enumerate(("old.h5", "sub/new.h5")):
        write_recording(tmp_path / name, 3, 2)
        os.utime(tmp_path / name, (time.time() - 100 + i,) * 2)
    assert latest(tmp_path) == tmp_path / "sub/new.h5"
    writer = RecordingWriter(tmp_path / "running.h5")
    writer.flush(wait=True)
    assert latest(tmp_path) == tmp_path / "running.h5"
    writer.close()
    with pytest.raises(FileNotFoundError, match="no recording in"):
        latest(tmp_path / "nowhere")


def test_says_what_is_wrong_with_a_path(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no recording at"):
        open_recording(tmp_path / "run.h5")
    with pytest.raises(IsADirectoryError, match="is a folder"):
        open_recording(tmp_path)


def test_another_process_reads_a_run_while_it_is_written(tmp_path):
    program = (
        "import time, numpy as np\n"
        "from gradscope.store.write.writer import RecordingWriter\n"
        f"writer = RecordingWriter({str(tmp_path / 'run.h5')!r}, flush_seconds=0.005)\n"
        "for step in range(1, 401):\n"
        "    writer.append('training', {'step': [step], 'loss': [step / 8]})\n"
        "    time.sleep(0.002)\n"
        "writer.close()\n"
    )
    seen, status = [0], "running"
    with subprocess.Popen([sys.executable, "-c", program], cwd=ROOT) as process:
        while status == "running":
            try:
                tree = open_recording(tmp_path / "run.h5")
            except FileNotFoundError:
                assert len(seen) == 1, "it was there and is gone"
                assert process.poll() in (None, 0)
                continue
            if "training" in tree.children:
                loss = tree["training"]["loss"]
                np.testing.assert_array_equal(loss, np.arange(1, len(loss) + 1) / 8)
                seen.append(len(loss))
            status = tree.attrs["status"]
            tree.close()
    assert process.returncode == 0
    assert seen == sorted(seen)
    assert seen[-1] == 400
    assert len(set(seen)) > 3


def test_two_threads_that_open_a_file_at_once_share_it(path, monkeypatch):
    """The second comes while the first is about to; neither may close what the other reads."""
    source, found = lazy.RecordingSource(path), []

    class Manager(CachingFileManager):
        def __init__(self, *args):
            if not found:
                found.append(None)
                found[0] = source._open(path)
            super().__init__(*args)

    monkeypatch.setattr(lazy, "CachingFileManager", Manager)
    assert source._open(path) is found[0]
    assert found[0].id.valid
    source.close()
