"""Answers are bounded by the screen, however long the recording or large the folder."""

from __future__ import annotations

import base64
import time

import numpy as np
import pytest

pytest.importorskip("starlette")
from starlette.testclient import TestClient

from gradscope.report.data import read_rows
from gradscope.store.read.recording import open_recording
from gradscope.store.write.writer import RecordingWriter
from gradscope.view import maps
from gradscope.view.app import make_app
from tests.helpers import root_attributes, synthetic_columns, write_recording
from tests.view.conftest import write_sweep

LOCAL = "http://127.0.0.1"
N_LONG = 100_000
N_RUNS = 200


def write_long(path, n_steps):
    """Write every step of one quantity of a small network, and its loss."""
    _, params, _ = synthetic_columns(2, 4)
    steps = np.arange(1, n_steps + 1)
    rng = np.random.default_rng(0)
    with RecordingWriter(path, attrs=root_attributes(n_steps)) as writer:
        writer.set_axis("param", params)
        norms = np.exp(rng.normal(size=(n_steps, len(params["param"]))))
        writer.append("gradients", {"step": steps, "grad_norm": norms.astype(np.float32)})
        writer.append("training", {"step": steps, "loss": 1 / np.sqrt(steps)})


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    folder = tmp_path_factory.mktemp("long")
    write_long(folder / "short.h5", N_LONG // 20)
    write_long(folder / "long.h5", N_LONG)
    with TestClient(make_app(folder), base_url=LOCAL) as client:
        until = time.monotonic() + 60
        while len(client.get("/api/runs").json()["rows"]) < 2:
            assert time.monotonic() < until
            time.sleep(0.05)
        yield client


def keys(client):
    return {row["name"]: row["key"] for row in client.get("/api/runs").json()["rows"]}


@pytest.mark.parametrize(
    "question",
    [
        "map?runs={}&columns=1300",
        "map?runs={}&columns=100000&by=param",
        "curves?runs={}&name=loss&points=100000",
        "curves?runs={}&name=grad_norm&points=1300",
        "about?runs={}",
    ],
)
def test_bytes_do_not_grow_with_the_steps(client, question):
    sizes = {}
    for name, key in keys(client).items():
        answer = client.get("/api/" + question.format(key))
        assert answer.is_success
        sizes[name] = len(answer.content)
    assert sizes["long"] < 1_500_000
    assert sizes["long"] < 1.3 * sizes["short"]


def test_a_map_has_no_more_columns_than_asked_for(client):
    answer = client.get(f"/api/map?runs={keys(client)['long']}&columns=200").json()
    (columns,) = answer["runs"][0]["columns"]
    n_columns = len(base64.b64decode(columns["first"])) // 8
    assert 100 < n_columns <= 200
    curve = next(c for c in answer["runs"][0]["curves"] if c["name"] == "loss")
    assert len(curve["step"]) <= 2_000


def test_a_curve_keeps_the_range_of_what_is_thinned(client):
    answer = client.get(f"/api/curves?runs={keys(client)['long']}&name=loss&points=300").json()
    (series,) = answer["series"]
    assert len(series["x"]) <= 300
    steps = np.arange(1, N_LONG + 1)
    assert series["high"][0] == pytest.approx(1.0)
    assert min(series["low"]) == pytest.approx(1 / np.sqrt(steps[-1]), rel=1e-5)


def test_the_first_of_many_runs_show_before_all_are_read(tmp_path):
    write_sweep(tmp_path, 1)
    content = (tmp_path / "run0.h5").read_bytes()
    for i in range(1, N_RUNS):
        (tmp_path / f"run{i}.h5").write_bytes(content)
    with TestClient(make_app(tmp_path), base_url=LOCAL) as client:
        seen, until = [], time.monotonic() + 60
        while not seen or seen[-1] < N_RUNS:
            seen.append(len(client.get("/api/runs").json()["rows"]))
            assert time.monotonic() < until
            time.sleep(0.2)  # an answer takes part of a core
        assert any(0 < n < N_RUNS for n in seen)
        answer = client.get("/api/runs")
        assert len(answer.content) < N_RUNS * 1500


def test_groups_are_thinned_at_the_same_steps(tmp_path, monkeypatch):
    def later(columns, params, layers):
        columns["updates"] = {name: rows[1:] for name, rows in columns["updates"].items()}

    path = write_recording(tmp_path / "run.h5", 60, change=later)
    with open_recording(path) as tree:
        whole = read_rows(tree, "effective_lr", "layer")
        monkeypatch.setattr(maps, "MAX_VALUES", 300)
        few = read_rows(maps.thinned(tree, "effective_lr"), "effective_lr", "layer")
    assert 2 < few.sizes["step"] < whole.sizes["step"] / 2 and np.isfinite(few).any()
    np.testing.assert_array_equal(few, whole.sel(step=few["step"]))
