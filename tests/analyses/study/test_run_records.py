import json

import pytest

from analyses.study.run_records import Runs, find_runs
from gradscope.errors import UsageError
from tests.helpers import write_recording

SPECS = ("map", "plain")


def record(folder, name, seed=0, **attributes):
    folder.mkdir(parents=True, exist_ok=True)
    config = json.dumps({"alpha": 0.5, "seed": seed})
    return write_recording(folder / f"{name}.h5", 4, 3, seed=seed, config_json=config, **attributes)


def test_folders_name_spec_and_scale(tmp_path):
    record(tmp_path / "map-cpu", "b", seed=2)
    record(tmp_path / "map-cpu", "a", seed=3)
    record(tmp_path / "map-cpu", "tune-a", seed=9)
    record(tmp_path / "plain-cpu", "c")
    record(tmp_path / "else-cpu", "d")
    runs = find_runs([str(tmp_path)], SPECS)
    assert runs.scale == "cpu"
    assert [run.path.name for run in runs.of("map")] == ["b.h5", "a.h5"]
    assert [run.seed for run in runs.trials("map")] == [9]
    assert [run.spec for run in runs.of("plain")] == ["plain"]
    assert len(runs.records) == 4


def test_a_folder_without_scale_holds_runs_of_the_full_recipe(tmp_path):
    record(tmp_path / "map", "a")
    record(tmp_path / "map-cpu", "a")
    with pytest.raises(UsageError, match="runs of cpu, full were found: choose one --scale"):
        find_runs([str(tmp_path)], SPECS)
    assert len(find_runs([str(tmp_path)], SPECS, scale="full").of("map")) == 1


def test_a_recording_says_how_its_run_ended(tmp_path):
    path = record(tmp_path / "map-cpu", "a", status="diverged")
    record(tmp_path / "map-cpu", "b", status="interrupted")
    runs = find_runs([str(tmp_path / "map-cpu")], SPECS)
    (run,) = runs.of("map")
    assert run.is_diverged and run.path == path
    with run.open("evaluation") as tree:
        last = tree["evaluation/val_loss"].values[-1]
    assert run.metrics["val_loss"] == last
    assert runs.n_left_out == 1  # the interrupted one


def test_the_index_spares_opening_but_not_what_it_does_not_know(tmp_path):
    record(tmp_path / "map-cpu", "a")
    record(tmp_path / "map-cpu", "new", seed=5)
    record(tmp_path / "map-cpu", "retried", seed=6)
    rows = [
        {
            "path": "a.h5",
            "status": "finished",
            "metrics": {"val_loss": 0.25},
            "config": {"seed": 4},
        },
        {"path": "retried.h5", "status": "failed", "metrics": {}, "config": {"seed": 6}},
        {"path": "lost.h5", "status": "failed", "metrics": {}, "config": {"seed": 7}},
    ]
    (tmp_path / "map-cpu" / "index.json").write_text(json.dumps({"runs": rows}))
    runs = find_runs([str(tmp_path / "map-cpu")], SPECS)
    assert [run.seed for run in runs.of("map")] == [4, 5, 6]
    assert runs.of("map")[0].metrics == {"val_loss": 0.25}
    assert runs.n_left_out == 1  # lost, and not the one that was retried


def test_segments_of_a_run_that_goes_on_are_no_runs(tmp_path):
    path = record(tmp_path, "mine")
    segments = tmp_path / "other.h5.part"
    segments.mkdir()
    (segments / "000001.h5").write_bytes(path.read_bytes())
    runs = find_runs([str(tmp_path)], SPECS, scale="cpu", spec="plain")
    assert [run.path for run in runs.of("plain")] == [path]


def test_recordings_of_others_can_be_taken_as_runs_of_a_spec(tmp_path):
    path = write_recording(tmp_path / "mine.h5", 4, 3, seed=7, config_json="{}")
    runs = find_runs([str(tmp_path / "*.h5")], SPECS, scale="full", spec="plain")
    assert [(run.path, run.seed) for run in runs.of("plain")] == [(path, 7)]


def test_mistakes_are_named(tmp_path):
    write_recording(tmp_path / "mine.h5", 4, 3)
    with pytest.raises(FileNotFoundError, match="no recording or folder matches"):
        find_runs([str(tmp_path / "none")], SPECS)
    with pytest.raises(UsageError, match="none of 1 recordings is of a spec of this question"):
        find_runs([str(tmp_path)], SPECS)
    with pytest.raises(UsageError, match="unknown spec 'mapp'; did you mean 'map'"):
        find_runs([str(tmp_path)], SPECS, spec="mapp")
    with pytest.raises(UsageError, match="--spec needs --scale"):
        find_runs([str(tmp_path)], SPECS, spec="map")
    with pytest.raises(UsageError, match="unknown scale 'ful'"):
        Runs([], "ful")
