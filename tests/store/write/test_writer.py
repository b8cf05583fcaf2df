"""What goes in comes out: through segments, merges, changing axes and resuming."""

import tracemalloc

import h5py
import numpy as np
import pytest
import xarray as xr

from gradscope.errors import RecordingExistsError
from gradscope.store.format.segments import list_segments, part_folder
from gradscope.store.read.recording import open_recording
from gradscope.store.write.writer import RecordingWriter
from tests.helpers import synthetic_columns

PARAMS = ["a.weight", "a.bias"]


def new_writer(path, **options):
    writer = RecordingWriter(path, {"seed": 3}, **options)
    writer.set_axis("param", {"param": PARAMS, "numel": [6, 2], "depth": [0, 0]})
    return writer


def append(writer, steps, value=1.0):
    steps = np.atleast_1d(steps)
    writer.append("gradients", {"step": steps, "grad_norm": np.full((len(steps), 2), value)})


def norms(path):
    return open_recording(path)["gradients"].dataset["grad_norm"]


def test_segments_are_files_of_the_format_and_the_end_is_one_file(tmp_path):
    path = tmp_path / "run.h5"
    writer = new_writer(path)
    for step in range(1, 4):
        append(writer, step, step)
        writer.flush(wait=True)
    names = sorted(p.name for p in part_folder(path).glob("*.h5"))
    assert names == ["000001.h5", "000002.h5", "000003.h5"]
    plain = xr.open_datatree(part_folder(path) / "000002.h5")
    assert plain["gradients"]["grad_norm"].values.tolist() == [[2, 2]]
    plain.close()
    live = norms(path).load()
    writer.close()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["run.h5"]
    xr.testing.assert_identical(norms(path).load(), live)
    assert open_recording(path).attrs["is_complete"] == 1
    assert writer.bytes_written > path.stat().st_size


def contents(path):
    """Everything in a file: values, attributes, and how the arrays are stored."""
    found = {}

    def see(name, item):
        own = {key: np.asarray(value).tolist() for key, value in item.attrs.items()}
        own = {key: value for key, value in own.items() if "_LIST" not in key}  # references
        if isinstance(item, h5py.Dataset):
            filters = (item.chunks, item.compression, item.shuffle, item.fletcher32)
            scales = [[scale.name for scale in dim.values()] for dim in item.dims]
            own["stored"] = [item.dtype, item.fillvalue, filters, scales, item[()].tobytes()]
        found[name] = own

    with h5py.File(path) as file:
        see("/", file)
        file.visititems(see)
    del found["/"]["created_at"]
    return found


def test_a_recording_that_was_never_flushed_ends_in_the_same_file(tmp_path):
    columns, params, layers = synthetic_columns(1200, 5)
    for name in ("merged", "whole"):
        with RecordingWriter(tmp_path / f"{name}.h5", {"seed": 3, "tags": ["a", "b"]}) as writer:
            writer.set_axis("param", params)
            writer.set_axis("layer", layers)
            for group, rows in columns.items():
                writer.append(group, rows)
            if name == "merged":
                writer.flush(wait=True)
    merged, whole = (contents(tmp_path / f"{name}.h5") for name in ("merged", "whole"))
    assert merged.keys() == whole.keys()
    for name, expected in merged.items():
        assert repr(whole[name]) == repr(expected), name


def test_there_are_never_many_segments(tmp_path):
    writer = new_writer(tmp_path / "run.h5")
    for step in range(1, 101):
        append(writer, step, step)
        writer.flush(wait=True)
    # 100 = 1 * 64 + 4 * 8 + 4
    assert len(list_segments(part_folder(writer.path))) == 9
    np.testing.assert_array_equal(norms(writer.path)[:, 0], np.arange(1, 101))
    writer.close()
    np.testing.assert_array_equal(norms(writer.path)[:, 1], np.arange(1, 101))


def test_new_parameters_align_by_name_and_earlier_rows_are_missing(tmp_path):
    writer = new_writer(tmp_path / "run.h5")
    append(writer, 1)
    axis = {"param": ["b.weight", *PARAMS], "numel": [9, 6, 2]}
    writer.set_axis("param", axis)
    writer.append("gradients", {"step": [2], "grad_norm": [[7.0, 8.0, 9.0]]})
    for _ in range(2):
        got = norms(writer.path) if writer.path.exists() else None
        writer.close()
    got = norms(writer.path)
    assert got["param"].values.tolist() == axis["param"]
    np.testing.assert_array_equal(got, [[np.nan, 1, 1], [7, 8, 9]])
    assert got["numel"].values.tolist() == [9, 6, 2]
    assert got["depth"].values.tolist() == [-1, 0, 0]


def test_what_is_not_given_is_missing_and_not_zero(tmp_path):
    writer = new_writer(tmp_path / "run.h5")
    counts = np.array([[1.0, np.nan]])
    writer.append("gradients", {"step": [1], "grad_nonfinite": counts})
    append(writer, 2)
    writer.append("training", {"step": [1], "is_skipped": [True]})
    writer.append("training", {"step": [2], "my_metric": [4.0]})
    writer.close()
    tree, plain = open_recording(writer.path), xr.open_datatree(writer.path)
    for found in (tree, plain):
        np.testing.assert_array_equal(found["gradients"]["grad_norm"], [[np.nan] * 2, [1, 1]])
        np.testing.assert_array_equal(
            found["gradients"]["grad_nonfinite"], [[1, np.nan], [np.nan] * 2]
        )
        np.testing.assert_array_equal(found["training"]["is_skipped"], [1, np.nan])
        np.testing.assert_array_equal(found["training"]["my_metric"], [np.nan, 4])


def test_several_logs_of_one_step_are_one_row_also_across_flushes(tmp_path):
    writer = new_writer(tmp_path / "run.h5")
    writer.append("evaluation", {"step": [0], "val_loss": [2.0]})
    writer.append("evaluation", {"step": [0], "val_accuracy": [0.1]})
    writer.flush(wait=True)
    writer.append("evaluation", {"step": [0], "train_loss": [3.0], "val_loss": [1.0]})
    writer.flush(wait=True)
    live = open_recording(writer.path)["evaluation"].to_dataset().load()
    writer.close()
    for got in (live, open_recording(writer.path)["evaluation"].to_dataset()):
        assert got["step"].values.tolist() == [0]
        assert [got[n].item() for n in ("val_loss", "train_loss")] == [1.0, 3.0]
        assert got["val_accuracy"].item() == pytest.approx(0.1)


@pytest.mark.parametrize("is_finished", [True, False])
def test_resume_drops_rows_beyond_the_checkpoint(tmp_path, is_finished):
    path = tmp_path / "run.h5"
    writer = new_writer(path)
    append(writer, np.arange(1, 11), 1.0)
    writer.append("evaluation", {"step": [9], "val_loss": [2.0]})
    writer.close() if is_finished else writer.flush(wait=True)
    if not is_finished:
        writer._worker._lock.release()  # as if it had been killed
    before = open_recording(path).attrs["created_at"]
    again = RecordingWriter(path, if_exists="resume", resume_step=6)
    again.set_axis("param", {"param": PARAMS, "numel": [6, 2]})
    assert norms(path)["step"].values.tolist() == list(range(1, 7))
    append(again, [7, 8], 2.0)
    again.close()
    got = norms(path)
    assert got["step"].values.tolist() == list(range(1, 9))
    assert got.values[:, 0].tolist() == [1.0] * 6 + [2.0] * 2
    tree = open_recording(path)
    assert "evaluation" not in tree.children
    assert tree.attrs["created_at"] == before
    assert tree.attrs["status"] == "finished"
    assert "resume_step" not in tree.attrs
    writer._finalizer.detach()


def test_resuming_twice_does_not_drop_what_the_first_added(tmp_path):
    path = tmp_path / "run.h5"
    for first, resume_step in ((1, None), (5, 4), (8, 7)):
        writer = new_writer(path, if_exists="resume", resume_step=resume_step)
        append(writer, np.arange(first, first + 6), float(first))
        writer.flush(wait=True)
        writer._worker._lock.release()  # as if it had been killed
        writer._finalizer.detach()
    got = norms(path)
    assert got["step"].values.tolist() == list(range(1, 14))
    assert got.values[:, 0].tolist() == [1.0] * 4 + [5.0] * 3 + [8.0] * 6


def test_what_stands_there_is_not_overwritten_unasked(tmp_path):
    new_writer(tmp_path / "run.h5").close()
    with pytest.raises(RecordingExistsError, match="a recording stands at"):
        new_writer(tmp_path / "run.h5")
    writer = new_writer(tmp_path / "run.h5", if_exists="overwrite")
    append(writer, 1)
    writer.close()
    assert norms(writer.path).shape == (1, 2)


@pytest.mark.parametrize(
    ("group", "rows", "words"),
    [
        ("gradients", {"step": [1], "grad_nrm": [[1, 1]]}, "has no variable 'grad_nrm'"),
        ("gradients", {"grad_norm": [[1, 1]]}, "need 'step'"),
        ("gradients", {"step": [1], "grad_norm": [[1, 1, 1]]}, r"must have shape \(1, 2\)"),
        ("gradients", {"step": [2, 2], "grad_norm": np.ones((2, 2))}, "do not increase"),
        ("activations", {"step": [1], "output_rms": [[1.0]]}, r"call set_axis\('layer'"),
        ("nowhere", {"step": [1]}, "unknown group 'nowhere'"),
        ("training", {"step": [1], "a/b": [1.0]}, "no name for a variable"),
        ("training", {"step": [1], "param": [1.0]}, "name of a dimension"),
    ],
)
def test_rows_that_do_not_fit_are_refused(tmp_path, group, rows, words):
    with new_writer(tmp_path / "run.h5") as writer:
        with pytest.raises(ValueError, match=words):
            writer.append(group, rows)


def test_axes_that_do_not_fit_are_refused(tmp_path):
    with RecordingWriter(tmp_path / "run.h5") as writer:
        for columns, words in [
            ({"param": ["a", "a"]}, "repeat"),
            ({"param": ["a"], "numel": [1, 2]}, r"shape \(2,\) for 1 labels"),
            ({"param": ["a"], "numle": [1]}, "unknown coordinate of param 'numle'; did you mean"),
            ({"numel": [1]}, "must hold 'param'"),
        ]:
            with pytest.raises(ValueError, match=words):
                writer.set_axis("param", columns)
        with pytest.raises(ValueError, match="unknown root attribute 'sed'; did you mean 'seed'"):
            writer.set_attrs(sed=1)


def test_an_exception_in_the_block_marks_the_run_failed(tmp_path):
    with pytest.raises(RuntimeError, match="oops"), new_writer(tmp_path / "run.h5") as writer:
        append(writer, 1)
        raise RuntimeError("oops")
    assert open_recording(tmp_path / "run.h5").attrs["status"] == "failed"


def test_no_path_host_or_user_stands_in_the_file(tmp_path):
    import getpass
    import socket

    writer = new_writer(tmp_path / "run.h5")
    append(writer, 1)
    writer.close()
    data = writer.path.read_bytes()
    assert str(tmp_path).encode() not in data
    assert socket.gethostname().encode() not in data
    assert f"/{getpass.getuser()}/".encode() not in data


def test_merging_takes_memory_for_the_labels_of_rows_and_a_few_blocks(tmp_path):
    n = 250_000
    writer = RecordingWriter(tmp_path / "run.h5", flush_rows=n)
    for start in (1, n + 1):
        steps = np.arange(start, start + n)
        writer.append("training", {"step": steps, "loss": 1 / steps})
        writer.flush(wait=True)
    tracemalloc.start()
    writer.close()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert writer.error is None
    assert peak < 24 * 2 * n + 10 * 2**20


def test_rows_around_an_event_may_stand_in_a_later_segment(tmp_path):
    writer = RecordingWriter(tmp_path / "run.h5")
    writer.append("spikes", {"event": [2], "spike_reason": [0]})
    writer.flush(wait=True)
    writer.append("spikes/training", {"step": [1, 2, 3], "loss": [1.0, 9.0, 1.0]})
    writer.flush(wait=True)
    writer.close()
    tree = open_recording(tmp_path / "run.h5")
    assert tree["spikes"]["event"].values.tolist() == [2]
    assert tree["spikes/training/loss"].values.tolist() == [1.0, 9.0, 1.0]
