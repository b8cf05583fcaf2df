"""Many runs as one: names, coordinates, alignment, and refusals that say why."""

import os
from pathlib import Path

import numpy as np
import pytest

from gradscope.errors import RecordingError, UsageError
from gradscope.store.read.recording import open_recording
from gradscope.store.read.run_attributes import name_runs
from gradscope.store.read.runs import open_runs
from gradscope.store.write.writer import RecordingWriter
from tests.helpers import write_recording


def write(path, alpha=0.0, seed=0, n_layers=4, steps=(1, 2, 3), reverse=False, value=None):
    writer = RecordingWriter(path, {"seed": seed, "config_json": f'{{"alpha": {alpha}}}'})
    names = [f"f.{i}.weight" for i in range(n_layers)][:: -1 if reverse else 1]
    depth = [int(name[2]) for name in names]
    relative = [d / max(n_layers - 1, 1) for d in depth]
    axis = {"param": names, "depth": depth, "relative_depth": relative}
    writer.set_axis("param", {**axis, "kind": ["weight"] * n_layers, "numel": [4] * n_layers})
    steps = np.array(steps)
    norms = 100 * (seed if value is None else value) + steps[:, None] + 0.01 * np.array(depth)
    writer.append("gradients", {"step": steps, "grad_norm": norms})
    writer.close()
    return path


def test_they_are_concatenated_lazily_with_what_differs_as_coordinates(tmp_path):
    for i in range(4):
        write(tmp_path / f"r{i}.h5", alpha=0.1 * (i // 2), seed=i % 2)
    runs = open_runs(str(tmp_path / "*.h5"))
    gradients = runs["gradients"].dataset
    assert gradients["grad_norm"].dims == ("run", "step", "param")
    assert gradients["grad_norm"].chunks is not None
    assert gradients["run"].values.tolist() == ["r0", "r1", "r2", "r3"]
    assert gradients["alpha"].values.tolist() == [0.0, 0.0, 0.1, 0.1]
    assert gradients["seed"].values.tolist() == [0, 1, 0, 1]
    one = gradients.sel(run="r3").drop_vars(["run", "alpha", "seed"]).load()
    own = open_recording(tmp_path / "r3.h5")["gradients"].dataset
    for name in own.data_vars:
        np.testing.assert_array_equal(one[name], own[name])
    by_alpha = gradients["grad_norm"].groupby("alpha").mean().compute()
    np.testing.assert_allclose(by_alpha.sel(alpha=0.1)[0], 50 + 1 + 0.01 * np.arange(4), rtol=1e-6)
    assert gradients.where(gradients["seed"] == 1, drop=True).sizes["run"] == 2
    runs.close()


def test_a_shorter_run_is_missing_after_its_end(tmp_path):
    write(tmp_path / "long.h5", steps=[1, 2, 4, 8, 16])
    write(tmp_path / "short.h5", steps=[1, 2, 4])
    # The last row of a run may stand alone: recorders add it.
    write(tmp_path / "ended.h5", steps=[1, 2, 3])
    got = open_runs(tmp_path.glob("[ls]*.h5"))["gradients"]["grad_norm"]
    assert got["step"].values.tolist() == [1, 2, 4, 8, 16]
    assert np.isnan(got.sel(run="short")[3:]).all()
    assert np.isfinite(got.sel(run="short")[:3]).all()
    got = open_runs([tmp_path / "long.h5", tmp_path / "ended.h5"])["gradients"]["grad_norm"]
    assert np.isfinite(got.sel(run="ended", step=[1, 2, 3])).all()
    assert np.isnan(got.sel(run="ended", step=4)).all()


def test_other_cadences_are_refused_with_the_reason_or_aligned_as_asked(tmp_path):
    files = [
        write(tmp_path / "a.h5", steps=[1, 2, 3, 4]),
        write(tmp_path / "b.h5", steps=[2, 4, 6]),
    ]
    with pytest.raises(UsageError, match=r"at different steps \(row 0: 2 and 1\); pass steps='com"):
        open_runs(files)
    common = open_runs(files, steps="common")["gradients"]["grad_norm"]
    assert common["step"].values.tolist() == [2, 4]
    assert np.isfinite(common).all()
    union = open_runs(files, steps="union")["gradients"]["grad_norm"]
    assert union["step"].values.tolist() == [1, 2, 3, 4, 6]
    assert np.isnan(union.sel(run="b", step=3)).all()
    with pytest.raises(UsageError, match="unknown value of steps 'unoin'; did you mean 'union'"):
        open_runs(files, steps="unoin")


def test_parameters_align_by_name(tmp_path):
    files = [write(tmp_path / "a.h5"), write(tmp_path / "b.h5", reverse=True)]
    got = open_runs(files)["gradients"]["grad_norm"]
    np.testing.assert_array_equal(got.sel(run="a"), got.sel(run="b"))


def test_architectures_align_by_relative_depth_on_request(tmp_path):
    files = [write(tmp_path / "a.h5", n_layers=3), write(tmp_path / "b.h5", n_layers=5)]
    with pytest.raises(UsageError, match=r"different params in /gradients .*relative_depth="):
        open_runs(files)
    got = open_runs(files, relative_depth=3)["gradients"]["grad_norm"]
    assert got.dims == ("run", "step", "relative_depth")
    np.testing.assert_allclose(got.sel(run="a")[0], [1.0, 1.01, 1.02], rtol=1e-6)
    np.testing.assert_allclose(got.sel(run="b")[0], [1.0, 1.02, 1.04], rtol=1e-6)


def test_names_are_distinct_and_whole_recordings_open(tmp_path):
    files = [write_recording(tmp_path / f"{k}/run.h5", 5, 2, seed=k) for k in (1, 2)]
    runs = open_runs(str(tmp_path / "*" / "run.h5"))
    assert runs["gradients"]["run"].values.tolist() == ["1/run", "2/run"]
    assert set(runs.children) == set(open_recording(files[0]).children)


def test_nothing_found(tmp_path):
    with pytest.raises(FileNotFoundError, match="no recording matches"):
        open_runs(str(tmp_path / "*.h5"))
    with pytest.raises(FileNotFoundError, match="no recordings were given"):
        open_runs([])


def test_groups_that_no_run_has_are_left_out_unless_there_is_none(tmp_path):
    paths = [write_recording(tmp_path / f"{seed}.h5", 5, 3, seed=seed) for seed in (0, 1)]
    tree = open_runs(paths, groups=("training", "noise"))
    assert list(tree.children) == ["training"]
    with pytest.raises(RecordingError, match="no run has the group custom or noise"):
        open_runs(paths, groups=("noise", "custom"))


def test_names_that_are_no_text_are_written_as_numbers():
    assert name_runs([Path(os.fsdecode(b"run\xff.h5"))]) == ["run\\xff"]
