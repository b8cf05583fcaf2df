import webbrowser

import pytest

from gradscope.cli.main import main
from tests.helpers import write_recording


@pytest.fixture(scope="module")
def recording(tmp_path_factory):
    return write_recording(tmp_path_factory.mktemp("runs") / "run.h5", 20, 4)


def test_writes_beside_the_recording_and_prints_path_and_size(recording, capsys):
    assert main(["report", str(recording)]) == 0
    path = recording.with_name("run-report.html")
    assert capsys.readouterr().out == f"{path} ({path.stat().st_size / 1e6:.1f} MB)\n"
    assert path.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")


def test_a_pattern_names_many_and_the_page_can_be_opened(tmp_path, capsys, monkeypatch):
    opened = []
    monkeypatch.setattr(webbrowser, "open", opened.append)
    for seed in (1, 2):
        write_recording(tmp_path / f"seed{seed}.h5", 10, 3, seed=seed)
    out = tmp_path / "page.html"
    assert main(["report", str(tmp_path / "*.h5"), "-o", str(out), "--open"]) == 0
    assert opened == [out.as_uri()]
    assert "2 runs: seed1 … seed2" in out.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--quantities", "grad_nrm"], "did you mean 'grad_norm'?"),
        (["--quantities", "loss"], "`loss` in /training has no layers"),
        (["--quantities", " , "], "--quantities takes names between commas"),
        (["--by", "colour"], "unknown grouping 'colour'"),
        (["--out", "page.pdf"], "ends in .html or .htm; got 'page.pdf'"),
    ],
)
def test_a_mistake_gets_one_line_and_exit_code_2(recording, tmp_path, capsys, options, message):
    out = [] if "--out" in options else ["--out", str(tmp_path / "page.html")]
    assert main(["report", str(recording), *out, *options]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_recording_gets_one_line(tmp_path, capsys):
    (tmp_path / "notes.h5").write_text("hello")
    for name in ("notes.h5", "missing.h5", "no*.hdf"):
        assert main(["report", str(tmp_path / name), "-o", str(tmp_path / "page.html")]) == 2
        error = capsys.readouterr().err
        assert name in error and error.count("\n") == 1
