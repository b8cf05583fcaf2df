"""Nothing that exists is replaced without ``--overwrite``, whatever the command."""

from __future__ import annotations

from pathlib import Path

import pytest

from gradscope.cli.main import main
from tests.helpers import write_recording

RECORD = ["--width", "0.05", "--limit-train", "32", "--batch-size", "16", "--steps", "1", "--quiet"]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_recording(Path("a.h5"), 8, 3, config_json='{"alpha": 0.0}')
    write_recording(Path("b.h5"), 8, 3, config_json='{"alpha": 0.5}')
    return tmp_path


COMMANDS = {
    "plot": (["plot", "a.h5"], "out.png"),
    "report": (["report", "a.h5"], "out.html"),
    "compare": (["compare", "a.h5", "b.h5"], "out.png"),
    "export": (["export", "a.h5", "--to", "netcdf"], "out.nc"),
    "repair": (["repair", "a.h5"], "out.h5"),
    "record": (["record", *RECORD], "out.h5"),
}


@pytest.mark.parametrize("command", COMMANDS)
def test_a_file_that_is_named_is_kept_or_replaced(folder, capsys, command):
    words, name = COMMANDS[command]
    Path(name).write_bytes(b"mine")
    assert main([*words, "-o", name]) == 2
    said = capsys.readouterr()
    expected = f"gradscope {command}: {name} exists; name another --out or give --overwrite\n"
    assert said.err == expected and said.out == ""
    assert Path(name).read_bytes() == b"mine"
    assert main([*words, "-o", name, "--overwrite"]) == 0
    assert Path(name).read_bytes() != b"mine"


@pytest.mark.parametrize(
    ("words", "names"),
    [
        (["plot", "a.h5"], ["a-grad_norm.png", "a-grad_norm-2.png", "a-grad_norm-3.png"]),
        (["report", "a.h5"], ["a-report.html", "a-report-2.html", "a-report-3.html"]),
        (
            ["compare", "a.h5", "b.h5"],
            ["compare-grad_norm.png", "compare-grad_norm-2.png", "compare-grad_norm-3.png"],
        ),
    ],
)
def test_a_default_name_gets_a_number(folder, capsys, words, names):
    for name in names:
        assert main(words) == 0
        assert name in capsys.readouterr().out
        assert Path(name).exists()
    before = {name: Path(name).stat().st_mtime_ns for name in names}
    assert main([*words, "--overwrite"]) == 0
    after = {name: Path(name).stat().st_mtime_ns for name in names}
    assert [before[name] != after[name] for name in names] == [True, False, False]


def test_numbers_beside_a_picture_are_kept_too(folder, capsys):
    Path("a-grad_norm.csv").write_text("mine")
    assert main(["plot", "a.h5", "--data"]) == 0
    assert capsys.readouterr().out.split() == ["a-grad_norm-2.png", "a-grad_norm-2.csv"]
    Path("out.csv").write_text("mine")
    assert main(["compare", "a.h5", "b.h5", "--data", "-o", "out.png"]) == 2
    assert "out.csv exists" in capsys.readouterr().err
    assert Path("out.csv").read_text() == Path("a-grad_norm.csv").read_text() == "mine"


def test_import_refuses_before_it_writes(folder, capsys):
    writer = pytest.importorskip("torch.utils.tensorboard").SummaryWriter
    for name in ("one", "two"):
        with writer(f"events/{name}") as events:
            events.add_scalar("loss", 1.0, 1)
    Path("made").mkdir()
    Path("made/two.h5").write_bytes(b"mine")
    assert main(["import", "events", "-o", "made"]) == 2
    assert "made/two.h5 exists; name another --out or give" in capsys.readouterr().err
    assert [path.name for path in Path("made").iterdir()] == ["two.h5"]
    assert main(["import", "events", "-o", "made", "--overwrite"]) == 0
    assert Path("made/two.h5").read_bytes() != b"mine"


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("is_named", [True, False])
def test_a_place_that_cannot_be_written_is_named_before_the_work(
    folder, monkeypatch, capsys, command, is_named
):
    def refuse(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "touch", refuse)
    words, name = COMMANDS[command]
    is_named |= command == "repair"  # its default name is taken
    assert main([*words, *["-o", name] * is_named]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"gradscope {command}: cannot write ") and said.count("\n") == 1
    assert "Permission denied; name another --out" in said and ".part:" not in said
