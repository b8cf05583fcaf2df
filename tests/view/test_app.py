"""The server of the live page, without a browser: what it says, and whom it refuses."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
import urllib.request

import numpy as np
import pytest

pytest.importorskip("starlette")
from starlette.testclient import TestClient

from gradscope.store.read.recording import open_recording
from gradscope.store.write.writer import RecordingWriter
from gradscope.view.app import make_app
from gradscope.view.catalog import scan
from gradscope.view.curves import smooth
from gradscope.view.server import serve_in_background
from gradscope.view.watch import MAX_STREAMS, Watcher
from tests.view.conftest import HOSTILE, Training, write_sweep

LOCAL = "http://127.0.0.1"


@pytest.fixture(scope="module")
def client(runs):
    with TestClient(make_app(runs), base_url=LOCAL) as client:
        wait_for(lambda: len(table(client)) == 6 and all_judged(client))
        yield client


def wait_for(condition, seconds=20):
    until = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < until, "waited in vain"
        time.sleep(0.05)
    return found


def table(client):
    return {row["name"]: row for row in client.get("/api/runs").json()["rows"]}


def all_judged(client):
    return all(r["health"] or r["status"] == "unreadable" for r in table(client).values())


def key(client, name):
    return table(client)[name]["key"]


def test_the_table_has_every_run_and_nothing_from_outside(client, runs):
    found = table(client)
    assert set(found) == {*(f"sweep/run{i}" for i in range(4)), HOSTILE, "broken"}
    assert found["broken"]["status"] == "unreadable"
    row = found["sweep/run1"]
    with open_recording(runs / "sweep" / "run1.h5") as tree:
        loss = float(tree["training"].dataset["loss"].values[-1])
    assert (row["status"], row["step"], row["settings"]["alpha"]) == ("finished", 60, 0.5)
    assert row["loss"] == pytest.approx(loss)


def test_files_of_an_environment_are_no_runs(tmp_path):
    """A virtual environment beside the runs holds the .h5 files of h5py's tests."""
    for name, marker in (("venv", "pyvenv.cfg"), ("conda", "conda-meta"), ("runs", "notes")):
        (tmp_path / name / "lib").mkdir(parents=True)
        (tmp_path / name / marker).touch()
        (tmp_path / name / "lib" / "data.h5").write_bytes(b"x")
    assert [run.name for run in scan(tmp_path).values()] == ["runs/lib/data"]


def test_only_what_changed_is_sent(client):
    revision = client.get("/api/runs").json()["revision"]
    answer = client.get(f"/api/runs?since={revision}").json()
    assert answer["rows"] == [] and len(answer["keys"]) == 6


def test_a_map_holds_the_numbers_of_the_recording(client, runs):
    answer = client.get(f"/api/map?runs={key(client, 'sweep/run0')}&quantity=grad_norm").json()
    grid = answer["runs"][0]["grids"]["grad_norm"]
    with open_recording(runs / "sweep" / "run0.h5") as tree:
        data = tree["gradients"].dataset["grad_norm"]
        weights = data.isel(param=(data["kind"] == "weight").values)
        smallest = np.log(weights.values.min(axis=0))
    assert grid["names"] == weights["param"].values.tolist()
    np.testing.assert_allclose(grid["low"], smallest, rtol=1e-6)


def test_curves_mean_and_band_follow_their_formulas(client, runs):
    names = [f"sweep/run{i}" for i in (0, 2)]
    keys = ".".join(key(client, name) for name in names)
    answer = client.get(f"/api/curves?runs={keys}&name=loss&group=alpha").json()
    losses = []
    for name in names:
        with open_recording(runs / f"{name}.h5") as tree:
            losses.append(tree["training"].dataset["loss"].values.astype(float))
    (group,) = answer["groups"]
    assert (group["name"], group["n"]) == ("alpha = 0", 2)
    np.testing.assert_allclose(group["y"], np.mean(losses, axis=0), rtol=1e-6)
    low = np.mean(losses, axis=0) - np.std(losses, axis=0, ddof=1)
    np.testing.assert_allclose(group["low"], low, rtol=1e-5)
    np.testing.assert_allclose(answer["series"][0]["y"], losses[0], rtol=1e-6)


def test_smoothing_is_the_weighted_mean_of_the_past():
    values = np.array([1.0, np.nan, 4.0, 2.0])
    expected = [1.0, np.nan, (4 + 0.25) / 1.25, (2 + 0.5 * 4 + 0.125) / 1.625]
    np.testing.assert_allclose(smooth(values, 0.5), expected)


def test_one_layer_across_runs(client):
    keys = ".".join(key(client, f"sweep/run{i}") for i in range(3))
    answer = client.get(f"/api/curves?runs={keys}&name=grad_norm").json()
    assert len(answer["layers"]) == 5 and len(answer["series"]) == 3
    last = answer["layers"][-1]
    again = client.get("/api/curves", params={"runs": keys, "name": "grad_norm", "layer": last})
    assert again.json()["series"][0]["y"] != answer["series"][0]["y"]


def test_a_difference_with_itself_would_be_zero_and_of_one_run_is_refused(client):
    a, b = (key(client, f"sweep/run{i}") for i in range(2))
    answer = client.get(f"/api/difference?runs={a}.{b}&quantity=grad_norm").json()
    assert answer["quantities"]["grad_norm"]["formula"] == "log2(A / B)"
    refused = client.get(f"/api/difference?runs={a}&quantity=grad_norm")
    assert refused.status_code == 422 and "two runs" in refused.json()["error"]


def test_mistakes_are_answered_in_words(client):
    run = key(client, "sweep/run0")
    for path, status in (
        ("/api/map?runs=nobody", 404),
        ("/api/map", 422),
        (f"/api/map?runs={run}&by=colour", 422),
        (f"/api/map?runs={run}&columns=many", 422),
        (f"/api/nothing?runs={run}", 404),
        ("/api/runs?since=x", 422),
        (f"/api/map?runs={key(client, 'broken')}", 422),
        ("/static/../catalog.py", 404),
        ("/static/%2e%2e%2fcatalog.py", 404),
        ("/../../secret.h5", 404),
    ):
        assert client.get(path).status_code == status, path
    assert client.post("/api/runs").status_code == 405


def test_the_page_may_load_nothing_from_elsewhere(client):
    page = client.get("/")
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy and "script-src 'self'" in policy
    assert "unsafe-eval" not in policy and "connect-src 'self'" in policy
    assert "http://" not in page.text and "https://" not in page.text
    assert "<script>" not in page.text and "style=" not in page.text


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "", "10.0.0.1"])
def test_another_host_is_refused(client, host):
    assert client.get("/api/runs", headers={"Host": host}).status_code == 421


def test_another_site_may_not_ask(client):
    assert client.get("/api/runs", headers={"Sec-Fetch-Site": "cross-site"}).status_code == 403


def test_a_token_is_needed_where_one_is_set(runs):
    app = make_app(runs, token="right", hosts=frozenset({"box"}))
    with TestClient(app, base_url="http://box", follow_redirects=False) as client:
        assert client.get("/").status_code == 401
        assert client.get("/?token=wrong").status_code == 401
        assert client.get("/api/runs", headers={"Authorization": "Bearer right"}).is_success
        answer = client.get("/?token=right")
        assert answer.status_code == 303 and "right" not in answer.headers["location"]
        assert "HttpOnly" in answer.headers["set-cookie"]
        assert client.get("/api/runs").is_success  # by the cookie


def test_a_proxy_may_strip_its_prefix_or_not(runs):
    with TestClient(make_app(runs, root_path="/user/me/view"), base_url=LOCAL) as client:
        for path in ("/static/view.css", "/user/me/view/static/view.css", "/user/me/view/"):
            assert client.get(path).is_success


def test_new_growing_and_ended_runs_show_within_two_seconds(tmp_path):
    with TestClient(make_app(tmp_path), base_url=LOCAL) as client:
        assert table(client) == {}
        training = Training(tmp_path / "live.h5")
        training.start()
        first = wait_for(lambda: table(client).get("live"), 2 + 3)
        assert first["status"] == "live"
        wait_for(lambda: table(client)["live"]["step"] > first["step"], 2 + 3)
        training.end()
        wait_for(lambda: table(client)["live"]["status"] == "finished", 2 + 5)
        (tmp_path / "live.h5").unlink()
        wait_for(lambda: not table(client), 2 + 3)


LIVE = """
import sys, time, torch, gradscope
model = torch.nn.Linear(4, 2)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
print("begins", flush=True)
with gradscope.Recorder(model, optimizer, sys.argv[1]) as recorder:
    for step in range(1, 200):
        model(torch.ones(1, 4)).sum().backward()
        optimizer.step()
        recorder.log(loss=0.5)
        print(step, time.monotonic(), flush=True)
        time.sleep(0.1)
"""


def test_a_training_shows_within_two_seconds_at_the_page(tmp_path):
    """With the rhythm that recorders have, while a client listens as a browser does."""
    page = serve_in_background([tmp_path])
    command = [sys.executable, "-c", LIVE, str(tmp_path / "run.h5")]
    with (
        urllib.request.urlopen(page.url + "api/events", timeout=20),
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as training,
    ):
        assert training.stdout.readline() == "begins\n"
        made = [float(training.stdout.readline().split()[1]) for _ in range(30)]
        with urllib.request.urlopen(page.url + "api/runs", timeout=20) as answer:
            (row,) = json.load(answer)["rows"]
        training.kill()
    page.close()
    lag = time.monotonic() - made[row["step"]]  # since the first step that does not show
    assert row["status"] == "live" and row["step"] > 1 and lag < 4  # 2, on a busy machine


def test_a_run_that_has_written_nothing_yet_shows(tmp_path):
    writer = RecordingWriter(tmp_path / "new.h5", flush_seconds=60)
    with TestClient(make_app(tmp_path), base_url=LOCAL) as client:
        row = wait_for(lambda: table(client).get("new"))
        assert (row["status"], row["step"], row["is_blank"]) == ("live", 0, True)
        refused = client.get(f"/api/map?runs={row['key']}")
        assert refused.status_code == 422 and "nothing is written yet" in refused.text
        writer.close()
        wait_for(lambda: table(client)["new"]["status"] == "finished")
        assert not table(client)["new"]["is_blank"]


def test_a_killed_run_is_told_from_a_live_one(tmp_path):
    program = (
        "import os, sys, pathlib\n"
        "sys.path.insert(0, os.getcwd())\n"
        "from tests.view.conftest import Training\n"
        f"training = Training(pathlib.Path({str(tmp_path / 'gone.h5')!r}))\n"
        "training.writer.flush() if hasattr(training.writer, 'flush') else None\n"
        "import time; time.sleep(1.5); os._exit(9)\n"
    )
    assert subprocess.run([sys.executable, "-c", program]).returncode == 9
    watcher = Watcher(tmp_path)
    watcher.look()
    assert [row["status"] for row in watcher.rows.values()] == ["killed"]


def test_nothing_is_written(client, runs):
    before = sorted((p, p.lstat().st_mtime_ns) for p in runs.rglob("*"))
    for name in ("sweep/run0", HOSTILE):
        client.get(f"/api/about?runs={key(client, name)}")
    assert sorted((p, p.lstat().st_mtime_ns) for p in runs.rglob("*")) == before


def test_listeners_are_bounded_and_a_hanging_one_costs_nothing(tmp_path):
    async def listen():
        watcher = Watcher(tmp_path)
        streams = [watcher.stream() for _ in range(MAX_STREAMS)]
        first = [await anext(stream) for stream in streams]
        assert first == ["data: 0\n\n"] * MAX_STREAMS and watcher.is_full
        watcher.revision = 10_000  # none of them reads meanwhile
        watcher._tell()
        assert await anext(streams[0]) == "data: 10000\n\n"
        for stream in streams:
            await stream.aclose()
        assert not watcher.is_full

    asyncio.run(listen())


def test_the_page_never_imports_torch():
    program = "import sys, gradscope.view.server; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", program], check=True)


def test_two_hundred_runs_are_read_in_the_background(tmp_path):
    write_sweep(tmp_path, 1)
    bytes_ = (tmp_path / "run0.h5").read_bytes()
    for i in range(1, 200):
        (tmp_path / f"run{i}.h5").write_bytes(bytes_)
    watcher = Watcher(tmp_path)
    begun = time.monotonic()
    watcher.look()
    assert time.monotonic() - begun < 5 and 0 < len(watcher.rows) <= 200
