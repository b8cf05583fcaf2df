import pytest

from gradscope.cli.main import main
from gradscope.cli.values import read_steps
from gradscope.errors import UsageError
from gradscope.plots.figure import KINDS
from tests.helpers import write_recording


@pytest.fixture(scope="module")
def recording(tmp_path_factory):
    return write_recording(tmp_path_factory.mktemp("runs") / "run.h5", 30, 5)


def test_writes_beside_the_recording_and_prints_the_path(recording, capsys):
    assert main(["plot", str(recording)]) == 0
    printed = capsys.readouterr().out.strip()
    assert printed == str(recording.with_name("run-grad_norm.png"))
    assert recording.with_name("run-grad_norm.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("kind", "name"),
    [("profile", "run-grad_norm-profile.png"), ("update-ratio", "run-update-ratio.png")],
)
def test_names_say_kind_and_quantity(recording, capsys, kind, name):
    assert main(["plot", str(recording), "--kind", kind]) == 0
    assert capsys.readouterr().out.strip() == str(recording.with_name(name))


def test_data_writes_the_plotted_numbers_beside_the_figure(recording, tmp_path, capsys):
    out = tmp_path / "figure.png"
    assert main(["plot", str(recording), "--out", str(out), "--data"]) == 0
    assert capsys.readouterr().out.split() == [str(out), str(tmp_path / "figure.csv")]
    lines = (tmp_path / "figure.csv").read_text().splitlines()
    assert lines[0] == "step,param,grad_norm" and len(lines) == 1 + 30 * 5


def test_several_recordings_are_drawn_as_one_figure(recording, tmp_path, capsys):
    other = write_recording(tmp_path / "other.h5", 30, 5, seed=1)
    out = tmp_path / "figure.png"
    assert main(["plot", str(recording), str(other), "--width", "page", "--out", str(out)]) == 0
    assert out.exists()


def test_other_architectures_need_relative_depth_where_layers_are_drawn(
    recording, tmp_path, capsys
):
    other = write_recording(tmp_path / "other.h5", 30, 4, seed=1)
    out = ["--out", str(tmp_path / "figure.png"), "--overwrite"]
    assert main(["plot", str(recording), str(other), *out]) == 2
    error = capsys.readouterr().err
    assert "aligned with --relative-depth POINTS" in error and "only one has" in error
    assert main(["plot", str(recording), str(other), *out, "--relative-depth", "5"]) == 0
    assert main(["plot", str(recording), str(other), *out, "--kind", "curves"]) == 0


@pytest.mark.parametrize(
    ("suffix", "start"), [("png", b"\x89PNG"), ("pdf", b"%PDF"), ("svg", b"<?xml")]
)
def test_out_takes_the_format_of_its_suffix(recording, tmp_path, suffix, start):
    out = tmp_path / f"figure.{suffix}"
    options = ["--kind", "profile", "--quantity", "update_ratio", "--steps", "5:"]
    assert main(["plot", str(recording), "--out", str(out), *options]) == 0
    assert out.read_bytes().startswith(start)
    assert list(tmp_path.iterdir()) == [out]


@pytest.mark.parametrize("kind", ["heatmap", "profile", "trajectories"])
@pytest.mark.parametrize("by", ["param", "layer"])
def test_every_kind_and_grouping(recording, tmp_path, kind, by):
    out = tmp_path / "figure.png"
    options = ["--kind", kind, "--by", by, "--style", "talk", "--width", "page"]
    assert main(["plot", str(recording), "--out", str(out), *options]) == 0
    assert out.exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--quantity", "grad_nrm"], "did you mean 'grad_norm'"),
        (["--quantity", "noise_scale"], "this recording has no `noise_scale`; it has: descent"),
        (["--quantity", "loss"], "has no layers"),
        (["--kind", "pie"], "unknown kind 'pie'"),
        (["--by", "colour"], "unknown grouping 'colour'"),
        (["--steps", "5"], "--steps takes A:B"),
        (["--steps", "90:95"], "no recorded step in 90:95"),
        (["--layers", "["], "no regular expression"),
        (["--layers", "nowhere"], "no row matches 'nowhere'"),
        (["--out", "figure.tiff"], "ends in .png, .pdf or .svg"),
        (["--style", "poster"], "unknown style 'poster'"),
        (["--width", "3"], "between 40 and 1000 mm"),
        (["--quantity", "output_rms", "--by", "param"], "belongs to layers, not parameters"),
        (["--kind", "histogram"], "no `grad_histogram`"),
        (["--alphas", "x"], "--alphas takes numbers between commas"),
    ],
)
def test_a_mistake_gets_one_line_and_exit_code_2(recording, tmp_path, capsys, options, message):
    out = [] if "--out" in options else ["--out", str(tmp_path / "figure.png")]
    assert main(["plot", str(recording), *out, *options]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_recording_gets_one_line(tmp_path, capsys):
    (tmp_path / "notes.h5").write_text("hello")
    for name in ("notes.h5", "missing.h5"):
        assert main(["plot", str(tmp_path / name)]) == 2
        error = capsys.readouterr().err
        assert name in error and error.count("\n") == 1


def test_an_old_picture_survives_a_mistake(recording, tmp_path):
    out = tmp_path / "figure.png"
    out.write_bytes(b"good")
    assert main(["plot", str(recording), "--out", str(out), "--quantity", "nothing"]) == 2
    assert out.read_bytes() == b"good"


@pytest.mark.parametrize(
    ("text", "steps"), [("1:5", (1, 5)), (":5", (None, 5)), ("7:", (7, None)), (":", (None, None))]
)
def test_read_steps(text, steps):
    assert read_steps(text) == steps


@pytest.mark.parametrize("text", ["", "5", "a:b", "1:2:3", "1.5:2"])
def test_read_steps_refuses(text):
    with pytest.raises(UsageError, match="--steps takes A:B"):
        read_steps(text)


def test_every_kind_of_picture_is_listed_from_the_registry(capsys):
    assert main(["plot", "--kind", "list"]) == 0
    printed = capsys.readouterr().out
    assert [line.split()[0] for line in printed.splitlines()] == list(KINDS)
    assert "one or several" in printed
