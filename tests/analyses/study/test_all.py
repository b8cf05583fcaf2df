"""The whole study by its command line: killed, continued, added to, and drawn again."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock

from analyses import all as study
from analyses.study.results import read_table
from analyses.study.study import conclude
from tests.analyses.study import tiny_study

ROOT = Path(__file__).parents[3]
RESULTS = ROOT / "data/results"


def recordings(folder):
    return {path.name: path.stat().st_mtime_ns for path in (folder / "runs").glob("*/*.h5")}


def run_and_kill(folder):
    """Start the study in processes of its own and kill them all once two runs have ended."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.analyses.study.tiny_study", str(folder)],
        cwd=ROOT,
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 300
    while len(recordings(folder)) < 2 and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("study")


@pytest.mark.slow
def test_a_killed_study_goes_on_and_later_gets_more_seeds(folder, capsys):
    run_and_kill(folder)
    before = recordings(folder)
    assert 2 <= len(before) < 8
    assert tiny_study.main(folder) == 0
    after = recordings(folder)
    assert len(after) == 8
    assert {name: after[name] for name in before} == before
    out = capsys.readouterr().out
    assert f"{len(before)} runs ended, {8 - len(before)} to do" in out
    assert "8 runs ended, 0 of them by diverging; 0 failed; 0 left for another call" in out
    assert "2 seeds attain no p below 0.5; the Holm threshold is 0.01: run at least 8 seeds" in out

    assert tiny_study.main(folder, "--seeds", "3") == 0
    more = recordings(folder)
    assert len(more) == 12
    assert {name: more[name] for name in after} == after
    falls = read_table(folder / "results/tiny/smoke/falls.csv")
    assert falls.groupby(["alpha", "lr"])["seed"].nunique().tolist() == [3, 3, 3, 3]


@pytest.mark.slow
def test_what_was_concluded_follows_from_the_tables_alone(folder, tmp_path):
    results = folder / "results"
    falls = read_table(results / "tiny/smoke/falls.csv")
    means = falls.groupby(["alpha", "seed"])["fall"].mean()
    evidence = read_table(results / "tiny/smoke/evidence.csv")
    np.testing.assert_allclose(evidence["value"], means[0.5] - means[0.0], rtol=1e-12)
    # Half the tables, copied elsewhere, give the verdicts of half the seeds.
    copy = tmp_path / "results"
    shutil.copytree(results, copy)
    falls[falls["seed"] < 2].to_csv(copy / "tiny/smoke/falls.csv", index=False)
    options = study.parse(tiny_study.arguments(tmp_path, "--from-results"))
    assert study.run(options, [tiny_study.QUESTION]) == 0
    (first, *others) = json.loads((copy / "verdicts-smoke.json").read_text())
    assert (first["key"], first["n"], first["word"]) == ("P1", 2, "inconclusive")
    assert first["effect"] == pytest.approx(evidence["value"][:2].mean())
    assert {verdict["reason"] for verdict in others} == {"runs: there are none"}


def test_a_plan_tells_what_it_costs_and_runs_nothing(tmp_path, capsys):
    assert tiny_study.main(tmp_path, "--dry-run") == 0
    out = capsys.readouterr().out
    assert "tiny-smoke: 4 cells x 2 seeds, arm fixed: 0 ended, 8 to do, about" in out
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--minutes", "0"], "--minutes must be more than 0; got 0"),
        (["--workers", "0"], "--workers must be at least 1; got 0"),
        (["--seeds", "0"], "--seeds must be a number from 1, or two such as 3-5; got 0"),
        (["--seeds", "5-3"], "--seeds must be a number from 1, or two such as 3-5; got 5-3"),
        (["--seeds", "few"], "--seeds must be a number from 1, or two such as 3-5; got few"),
        (["--amp", "bf61"], "unknown amp 'bf61'; did you mean 'bf16'?"),
        (["--first", "tiney"], "unknown spec 'tiney'; did you mean 'tiny'?"),
        (["--only", "tiney"], "unknown spec 'tiney'; did you mean 'tiny'?"),
        (["--only", "tiny", "--afresh"], "--only adds to tables, --afresh replaces them whole"),
        (["--only", "tiny", "--scale", "short"], "none of tiny has a [scale.short]"),
        (["--dry-run", "--from-results"], "runs nothing, so there is no plan for --dry-run"),
        (["--from-results"], "holds no tables of scale smoke; run the study first"),
    ],
)
def test_a_users_mistake_is_one_line(tmp_path, capsys, more, message):
    assert tiny_study.main(tmp_path, *more) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_two_calls_do_not_write_the_same_results(tmp_path, capsys):
    (tmp_path / "results").mkdir()
    with FileLock(tmp_path / "results/.smoke.lock"):
        assert tiny_study.main(tmp_path) == 2
    assert "another call is at work in" in capsys.readouterr().err


def test_the_map_comes_first():
    order = study.spec_order(study.load_questions())
    assert order[0] == "balance-map"
    assert len(order) == len(set(order))


def test_specs_that_are_wanted_first_come_before_the_map():
    questions = study.load_questions()
    order = study.spec_order(questions, ["cifar100-labels", "cifar10-map"])
    assert order[:3] == ["cifar100-labels", "cifar10-map", "balance-map"]
    assert sorted(order) == sorted(study.spec_order(questions))
    assert study.spec_order(questions, only=["cifar10-map"]) == ["cifar10-map"]


@pytest.mark.parametrize(
    "path", sorted(RESULTS.glob("verdicts-*.json")), ids=lambda path: path.stem
)
def test_committed_verdicts_follow_from_committed_tables(tmp_path, path):
    scale = path.stem.removeprefix("verdicts-")
    copy = tmp_path / "results"
    shutil.copytree(RESULTS, copy)
    conclude(study.load_questions(), scale, copy)
    committed, again = (json.loads((f / path.name).read_text()) for f in (RESULTS, copy))
    for old, new in zip(committed, again, strict=True):
        assert {k: new[k] for k in ("key", "word", "reason", "n", "arms")} == {
            k: old[k] for k in ("key", "word", "reason", "n", "arms")
        }
        for name, row in old["components"].items():
            assert new["components"][name] == pytest.approx(row, rel=1e-9)
