import numpy as np
import pandas as pd
import pytest

from analyses.claims.claim import Evidence
from analyses.study.command import command
from analyses.study.question import Answer, Question
from analyses.study.results import (
    answer_from,
    read_about,
    read_measured,
    read_table,
    write_measured,
)
from gradscope.errors import UsageError
from tests.analyses.study.tiny_study import QUESTION
from tests.helpers import write_recording

TABLE = pd.DataFrame(
    {
        "seed": range(10),
        "graft": ["none", ""] * 5,
        "value": np.random.default_rng(0).normal(size=10) * 10.0 ** np.arange(-150, 150, 30),
        "is_reached": [True, False] * 5,
        "steps": [1.0, np.nan] * 5,
    }
)


def question(answer):
    return Question(name="q", specs=("s",), measure=lambda runs: {}, answer=answer)


def test_tables_come_back_with_every_digit(tmp_path):
    write_measured({"t": TABLE, "none": TABLE.iloc[:0]}, tmp_path)
    read = read_measured(tmp_path)
    assert list(read) == ["t"]
    pd.testing.assert_frame_equal(read["t"], TABLE, check_exact=True)


def test_where_tables_cannot_be_written_the_old_ones_stay(tmp_path, monkeypatch):
    write_measured({"a": TABLE, "b": TABLE}, tmp_path)
    write, written = pd.DataFrame.to_csv, []

    def to_csv(table, path, **options):
        if written:
            raise OSError(28, "No space left on device")
        written.append(path)
        write(table, path, **options)

    monkeypatch.setattr(pd.DataFrame, "to_csv", to_csv)
    with pytest.raises(OSError, match="No space left"):
        write_measured({"a": TABLE[:3], "b": TABLE[:3], "c": TABLE}, tmp_path)
    assert written
    assert {name: len(table) for name, table in read_measured(tmp_path).items()} == {
        "a": 10,
        "b": 10,
    }
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.csv", "answer.json", "b.csv"]


def test_an_answer_is_drawn_from_the_tables_and_kept_beside_them(tmp_path):
    def answer(tables, scale):
        values = tables["t"][["seed", "steps"]].fillna(0.5).to_numpy(dtype=float)
        given = Evidence(values=values, components=("a", "b"), scale=scale, arms=("fixed",))
        return Answer(
            question="q",
            scale=scale,
            evidence={"P2": given},
            tables={"means": tables["t"][["value"]].agg(["mean"])},
            notes=("censored: 5",),
        )

    write_measured({"t": TABLE}, tmp_path)
    answer_from(question(answer), "cpu", tmp_path)
    evidence = read_table(tmp_path / "evidence.csv")
    assert set(evidence["claim"]) == {"P2"}
    own = evidence[evidence["component"] == "a"]
    np.testing.assert_array_equal(own["value"], np.arange(10))
    about = read_about(tmp_path)
    assert about["measured"] == ["t"] and about["notes"] == ["censored: 5"]
    assert about["evidence"]["P2"]["n_seeds"] == 10
    assert (tmp_path / "means.csv").exists()
    # Measuring again leaves nothing of the old answer.
    write_measured({"u": TABLE}, tmp_path)
    assert sorted(path.name for path in tmp_path.glob("*.csv")) == ["u.csv"]


@pytest.mark.parametrize("name", ["t", "evidence"])
def test_table_names_are_not_taken_twice(tmp_path, name):
    write_measured({"t": TABLE}, tmp_path)
    twice = Answer(question="q", scale="cpu", evidence={}, tables={name: TABLE})
    with pytest.raises(UsageError, match=f"table names are taken: {name}"):
        answer_from(question(lambda tables, scale: twice), "cpu", tmp_path)


def test_evidence_is_of_the_answers_scale_and_on_a_known_claim():
    given = Evidence(values=np.zeros((2, 1)), components=("a",), scale="cpu", arms=())
    with pytest.raises(UsageError, match="of scale cpu, the answer of full"):
        Answer(question="q", scale="full", evidence={"P1": given})
    with pytest.raises(UsageError, match="unknown claim 'P9'"):
        Answer(question="q", scale="cpu", evidence={"P9": given})


def test_a_question_is_answered_from_recordings(tmp_path, capsys):
    for seed in range(3):
        for alpha in (0.0, 0.5):
            folder = tmp_path / "tiny-cpu"
            folder.mkdir(exist_ok=True)
            config = f'{{"alpha": {alpha}, "lr": 0.1, "seed": {seed}}}'
            name = folder / f"a{alpha}-s{seed}.h5"
            write_recording(name, 5, 3, seed=seed + int(10 * alpha), config_json=config)
    results = tmp_path / "results"
    assert command(QUESTION, [str(tmp_path / "tiny-cpu"), "--results", str(results)]) == 0
    text = capsys.readouterr().out
    assert "# tiny, at scale cpu" in text
    # Three seeds attain 0.25 at best, and the Holm threshold of five claims is 0.01.
    assert "3 seeds attain no p below 0.25; the Holm threshold is 0.01" in text
    assert "Exploratory, at scale cpu" in text and "- 3 seeds" in text
    assert len(read_table(results / "tiny/cpu/falls.csv")) == 6


def test_a_users_mistake_is_one_line(tmp_path, capsys):
    assert command(QUESTION, [str(tmp_path / "nowhere")]) == 2
    error = capsys.readouterr().err
    assert error.startswith("tiny: no recording or folder matches") and error.count("\n") == 1
