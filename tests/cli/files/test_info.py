import json

import numpy as np
import pytest

from gradscope.cli.main import main
from gradscope.store.write.writer import RecordingWriter
from tests.helpers import synthetic_columns, write_recording


@pytest.fixture(scope="module")
def recording(tmp_path_factory):
    return write_recording(tmp_path_factory.mktemp("runs") / "run.h5", 30, 5, seed=3)


@pytest.fixture
def running(tmp_path):
    """A recording of a run that goes on: segments only."""
    columns, params, _ = synthetic_columns(30, 5)
    writer = RecordingWriter(tmp_path / "live.h5", attrs={"model_name": "plain"})
    writer.set_axis("param", params)
    writer.append("gradients", columns["gradients"])
    writer.flush(wait=True)
    yield tmp_path / "live.h5"
    writer.close(status="finished")


def read(path, capsys):
    assert main(["info", str(path), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_text_names_configuration_status_sizes_layers_and_last_values(recording, capsys):
    assert main(["info", str(recording)]) == 0
    out = capsys.readouterr().out
    for expected in (
        "status          finished",
        "model name      plain",
        "alpha   -0.1",
        "30 rows",
        "steps 1 to 30",
        "parameters in 9 layers",
        "classifier   Linear       depth 4  650",
        "loss",
        "step 30",
        " MB",
    ):
        assert expected in out, expected


def test_json_holds_the_same_for_machines(recording, capsys):
    found = read(recording, capsys)
    columns, params, _ = synthetic_columns(30, 5, seed=3)
    assert found["n_parameters"] == sum(params["numel"])
    assert found["n_bytes"] == recording.stat().st_size and not found["is_open"]
    assert found["configuration"] == {"alpha": -0.1, "epochs": 2}
    assert found["groups"]["gradients"]["n_rows"] == 30
    assert found["last"]["loss"] == {"step": 30, "value": columns["training"]["loss"][-1]}
    assert [layer["layer"] for layer in found["layers"]][:2] == ["features.0", "features.1"]
    assert found["layers"][0]["n_parameters"] == 8 * 8 * 9 + 8


def test_health_is_told_with_the_first_thing_to_try(tmp_path, capsys):
    columns, params, layers = synthetic_columns(30, 5, seed=3)
    columns["gradients"]["grad_nonfinite"][:] = 0
    columns["gradients"]["grad_nonfinite"][20, 4] = 7
    writer = RecordingWriter(tmp_path / "sick.h5", attrs={})
    writer.set_axis("param", params)
    writer.set_axis("layer", layers)
    for group in ("training", "gradients"):
        writer.append(group, columns[group])
    writer.close(status="finished")
    (finding,) = read(tmp_path / "sick.h5", capsys)["health"]
    assert finding["rule"] == "non-finite values" and finding["severity"] == "error"
    assert finding["layers"] == [params["param"][4]]
    assert (finding["first_step"], finding["last_step"]) == (21, 21)
    assert main(["info", str(tmp_path / "sick.h5")]) == 0
    out = capsys.readouterr().out
    assert "\nhealth\n  error  non-finite values: " in out and f"try: {finding['advice']}" in out


def test_a_running_recording_says_so(running, capsys):
    assert main(["info", str(running)]) == 0
    out = capsys.readouterr().out
    assert "status      running" in out and "in segments: still running, or stopped" in out
    found = read(running, capsys)
    assert found["is_open"] and found["n_bytes"] > 0
    assert found["groups"]["gradients"]["last_step"] == 30


def test_numbers_that_are_not_finite_are_null(tmp_path, capsys):
    writer = RecordingWriter(tmp_path / "nan.h5", attrs={"config_json": "not json"})
    loss = np.array([1.0, np.nan, np.inf])
    writer.append("training", {"step": np.arange(1, 4), "loss": loss, "mine": np.full(3, np.nan)})
    writer.close(status="diverged")
    found = read(tmp_path / "nan.h5", capsys)
    assert found["last"]["loss"] == {"step": 3, "value": None, "is_nonfinite": True}
    assert found["last"]["mine"] == {"step": 3, "value": None}
    assert found["configuration"] == {} and found["layers"] == []
    assert main(["info", str(tmp_path / "nan.h5")]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "loss not finite step 3" in out and "mine – step 3" in out


def test_a_loss_that_is_missing_where_gradients_are_not_finite_is_not_finite(tmp_path, capsys):
    path = diverged(tmp_path)
    assert read(path, capsys)["last"]["loss"] == {"step": 4, "value": None, "is_nonfinite": True}
    assert main(["tail", str(path), "--once"]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    rows = {words[0]: words[-3:] for words in lines if words}
    # step 2 was not logged, step 4 is NaN beside gradients that are; zero is the lowest bar
    assert rows["loss"] == ["not", "finite", "▁·█×"]
    assert rows["grad_norm,"] == ["not", "finite", "█▄▁×"]


def diverged(folder):
    """A recording whose fourth step has neither a finite loss nor a finite gradient."""
    writer = RecordingWriter(folder / "diverged.h5")
    steps = np.arange(1, 5)
    writer.append("training", {"step": steps, "loss": np.array([0.0, np.nan, 2.0, np.nan])})
    writer.set_axis("param", {"param": ["a"], "kind": ["weight"], "numel": [4], "stage": [-1]})
    norm = np.array([[2.0], [1.0], [0.0], [np.nan]])
    counts = np.array([[0], [0], [0], [4]])
    writer.append("gradients", {"step": steps, "grad_norm": norm, "grad_nonfinite": counts})
    writer.close(status="diverged")
    return folder / "diverged.h5"


def test_parameters_that_pictures_of_weights_leave_out_are_counted(tmp_path, capsys):
    writer = RecordingWriter(tmp_path / "run.h5")
    names = ["cls", "fc.weight", "fc.bias", "experts.w1", "experts.w2", "scale"]
    kinds = ["other", "weight", "bias", "other", "other", "other"]
    writer.set_axis("param", {"param": names, "kind": kinds, "numel": [4] * 6})
    writer.append("gradients", {"step": [1], "grad_norm": np.ones((1, 6))})
    writer.close()
    found = read(tmp_path / "run.h5", capsys)["not_shown"]
    assert found == {"other": ["cls", "experts.w1", "experts.w2", "scale"], "bias": ["fc.bias"]}
    assert main(["info", str(tmp_path / "run.h5")]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "(--by param) other 4 cls, experts.w1, experts.w2 and 1 more bias 1 fc.bias" in out
    picture = str(tmp_path / "run.png")
    assert main(["plot", str(tmp_path / "run.h5"), "--out", picture]) == 0
    said = capsys.readouterr()
    assert said.out == f"{picture}\n" and "not shown: 4 parameters of no weight layer" in said.err
    again = ["--out", picture, "--by", "param", "--overwrite"]
    assert main(["plot", str(tmp_path / "run.h5"), *again]) == 0
    assert "not shown" not in capsys.readouterr().err


def test_tensors_of_no_module_and_optimizers_of_one_class(tmp_path, capsys):
    attrs = {"optimizer_name": "SGD Adam Adam", "optimizer_names": "a b c"}
    writer = RecordingWriter(tmp_path / "run.h5", attrs=attrs)
    columns = {"layer": ["", ""], "depth": [-1, -1], "kind": ["weight", "bias"], "numel": [3, 1]}
    writer.set_axis("param", {"param": ["w", "b"], **columns})
    writer.append("gradients", {"step": [1], "grad_norm": np.ones((1, 2))})
    writer.close()
    assert main(["info", str(tmp_path / "run.h5")]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["(of", "no", "module)", "4"] in lines
    assert ["optimizer", "name", "SGD,", "2", "×", "Adam"] in lines
    assert main(["plot", str(tmp_path / "run.h5"), "-o", str(tmp_path / "run.svg")]) == 0
    assert "SGD, 2 × Adam" in (tmp_path / "run.svg").read_text()


@pytest.mark.parametrize("damage", ["cut", "noise", "empty", "text"])
def test_a_damaged_recording_gets_one_line(recording, tmp_path, capsys, damage):
    content = bytearray(recording.read_bytes())
    if damage == "cut":
        content = content[: len(content) // 2]
    elif damage == "noise":
        content[:4096] = np.random.default_rng(0).bytes(4096)
    path = tmp_path / "bad.h5"
    path.write_bytes({"empty": b"", "text": b"hello"}.get(damage, bytes(content)))
    assert main(["info", str(path)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("gradscope info: ") and error.count("\n") == 1 and "bad.h5" in error


def test_a_missing_recording_gets_one_line(tmp_path, capsys):
    assert main(["info", str(tmp_path / "none.h5")]) == 2
    assert capsys.readouterr().err.count("\n") == 1
