import json
import os
from pathlib import Path

import pytest

from gradscope.cli.main import main
from tests.helpers import write_recording


def config(alpha, seed):
    return json.dumps({"alpha": alpha, "seed": seed})


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    for alpha in (0.0, 0.5):
        for seed in (0, 1):
            write_recording(
                folder / f"a{alpha:g}-s{seed}.h5", 12, 3, seed=seed, config_json=config(alpha, seed)
            )
    write_recording(folder / "deep.h5", 12, 5, seed=0, config_json=config(0.0, 0))
    return folder


def run(capsys, *words):
    code = main(["compare", *map(str, words)])
    return code, *capsys.readouterr()


def test_prints_a_table_and_writes_figure_and_numbers(folder, tmp_path, capsys):
    out = tmp_path / "figure.png"
    code, text, _ = run(capsys, folder / "a0-*.h5", folder / "a0.5-*.h5", "--out", out, "--data")
    assert code == 0
    assert out.read_bytes().startswith(b"\x89PNG")
    assert text.splitlines()[-2:] == [str(out), str(out.with_suffix(".csv"))]
    assert "A  alpha = 0    2 runs, seeds 0, 1" in text
    assert "no seed band: 2 pairs of runs give no p below 0.5; 6 would do" in text
    lines = out.with_suffix(".csv").read_text().splitlines()
    assert lines[0].startswith("step,param,log_ratio,ratio") and len(lines) == 1 + 12 * 3


def test_stands_beside_the_first_recording(folder, capsys):
    code, text, _ = run(capsys, folder / "a0-s0.h5", folder / "a0.5-s0.h5")
    assert code == 0 and text.strip().endswith(str(folder / "compare-grad_norm.png"))


def test_json_alone_is_printed(folder, tmp_path, capsys):
    out = tmp_path / "figure.svg"
    code, text, _ = run(
        capsys, folder / "a0-s0.h5", folder / "a0.5-s0.h5", "--json", "--out", out, "--axis", "loss"
    )
    found = json.loads(text)
    assert code == 0 and found["files"] == [str(out)] and found["axis"] == "loss"
    assert [condition["name"] for condition in found["conditions"]] == ["alpha = 0", "alpha = 0.5"]
    assert found["maps"][0]["first_outside"] is None


def test_each_argument_is_a_condition(folder, tmp_path, capsys):
    pattern = str(folder / "a0.5-*.h5")
    words = ("--each", folder / "a0-s0.h5", pattern, "--out", tmp_path / "a.png")
    code, text, _ = run(capsys, *words)
    assert code == 0 and pattern.removesuffix(".h5") in text and "1 run, seed 0" in text


def test_two_replicates_are_a_condition_each(folder, tmp_path, capsys):
    files = (folder / "a0-s0.h5", folder / "a0-s1.h5")
    code, text, _ = run(capsys, *files, "--out", tmp_path / "a.png")
    assert code == 0 and "one run only of" in text


def test_other_architectures_need_relative_depth(folder, tmp_path, capsys):
    files = (folder / "a0-s0.h5", folder / "deep.h5")
    code, _, error = run(capsys, *files, "--out", tmp_path / "a.png")
    assert code == 2 and "aligned with --relative-depth POINTS" in error
    assert error.count("\n") == 1
    code, text, _ = run(
        capsys, "--each", *files, "--relative-depth", 5, "--out", tmp_path / "a.png"
    )
    assert code == 0 and "× 5 rows" in text


@pytest.mark.parametrize(
    ("words", "match"),
    [
        (["a0-s0.h5"], "needs two recordings at least"),
        (["a0-s0.h5", "nowhere.h5"], "nowhere.h5"),
        (["a0-s0.h5", "rubbish.h5"], "rubbish.h5"),
        (["empty", "a0-s0.h5"], "there is no recording"),
        (["--each", "a0*.h5"], "takes two at least"),
        (["a0-s0.h5", "a0-s1.h5", "--over", "device"], "do not differ in 'device'"),
        (["a0-s0.h5", "a0.5-s0.h5", "--over", "lr"], "do not differ in 'lr'"),
        (["a0-s0.h5", "a0.5-s0.h5", "--quantity", "grad_nrom"], "did you mean 'grad_norm'"),
        (["a0-s0.h5", "a0.5-s0.h5", "--axis", "epoch"], "does not say how long an epoch is"),
        (["a0-s0.h5", "a0.5-s0.h5", "--steps", "90:99"], "no recorded step in 90:99"),
        (["a0-s0.h5", "a0.5-s0.h5", "--steps", "x"], "--steps takes A:B"),
        (["a0-s0.h5", "a0.5-s0.h5", "--confidence", "95"], "must lie between 0 and 1"),
        (["a0-s0.h5", "a0.5-s0.h5", "--relative-depth", "1"], "takes 2 to 1,000 points"),
        (["a0-s0.h5", "a0.5-s0.h5", "--out", "a.docx"], "--out takes a name that ends in"),
        (["a0-s0.h5", "a0.5-s0.h5", "--style", "poster"], "unknown style 'poster'"),
    ],
)
def test_mistakes_are_one_line(folder, capsys, monkeypatch, words, match):
    monkeypatch.chdir(folder)
    (folder / "rubbish.h5").write_bytes(b"no recording")
    (folder / "empty").mkdir(exist_ok=True)
    code, _, error = run(capsys, *words)
    assert code == 2 and match in error and error.count("\n") == 1


def test_a_name_that_is_no_text_is_a_condition(folder, tmp_path, capsys):
    odd = Path(os.fsdecode(os.fsencode(tmp_path) + b"/odd\xff.h5"))
    odd.write_bytes((folder / "deep.h5").read_bytes())
    code, text, _ = run(capsys, folder / "deep.h5", odd, "--out", tmp_path / "figure.png")
    assert code == 0 and "odd\\xff" in text
