import json
import re
import shutil
from importlib import resources

import numpy as np
import pytest

from gradscope.report.page import write_report
from gradscope.store.format import layout
from gradscope.store.read.recording import open_recording
from gradscope.store.write.writer import RecordingWriter
from tests.helpers import root_attributes, synthetic_columns, write_recording
from tests.report.pages import Page, values_of

HOSTILE = (
    "</script><script>window.hacked=1</script><img src=x onerror=window.hacked=1>"
    "'\"&amp;{{7777*7}}%{x}é"
)


@pytest.fixture(scope="module")
def recording(tmp_path_factory):
    return write_recording(tmp_path_factory.mktemp("runs") / "run.h5", 30, 5)


@pytest.fixture(scope="module")
def page(recording, tmp_path_factory):
    out = tmp_path_factory.mktemp("page") / "page.html"
    assert write_report(recording, out) == out
    return Page(out.read_text(encoding="utf-8"))


def read(path, out, **options):
    return Page(write_report(path, out, **options).read_text(encoding="utf-8"))


def write_hostile(path, *, config):
    """Write a run whose every name and text would like to be code."""
    columns, params, layers = synthetic_columns(12, 3)
    for axis, names in (("param", params), ("layer", layers)):
        names[axis] = [f"{name}{HOSTILE}" for name in names[axis]]
    params["layer"] = [f"{name}{HOSTILE}" for name in params["layer"]]
    attrs = root_attributes(12) | {"model_name": HOSTILE, "command": HOSTILE, "config_json": config}
    status = attrs.pop("status")
    writer = RecordingWriter(path, attrs=attrs)
    writer.set_axis("param", params)
    writer.set_axis("layer", layers)
    for group, rows in columns.items():
        writer.append(group, rows)
    writer.close(status=status)
    return path


def test_the_page_holds_what_was_recorded(page, recording):
    tree = open_recording(recording)
    (run,) = page.data["runs"]
    for name in ("grad_norm", "update_ratio", "effective_lr"):
        found, columns = values_of(run, name)
        group = page.data["quantities"][name]["group"]
        source = tree[f"{group}/{name}"]
        source = source.isel(param=(source["kind"] == "weight").values)
        np.testing.assert_allclose(found.T, source.values, rtol=3e-4)
        assert run["grids"][name]["names"] == source["param"].values.tolist()
        assert columns["first"].tolist() == source["step"].values.tolist()
    tree.close()


def test_words_come_from_the_recording(page):
    quantity = page.data["quantities"]["exp_avg_sq_hat_mean"]
    assert quantity["label"] == "bias-corrected mean second moment"
    assert quantity["formula"] == "exp_avg_sq_mean / (1 - beta2^state_step)"
    assert page.data["runs"][0]["curves"][1]["label"].endswith("(nat)")
    text = page.all_text()
    for expected in ("plain · made-up · SMES", "finished", "alpha", "-0.1", "up to step 30"):
        assert expected in text
    alt = page.data["runs"][0]["grids"]["grad_norm"]["description"]
    assert alt.startswith("Heat map of gradient norm over 30 recorded steps (1 to 30) and 5 rows")


def test_the_page_asks_the_network_for_nothing(page):
    for tag, attrs in page.tags:
        assert tag not in ("link", "iframe", "object", "base")
        assert "src" not in attrs
        assert attrs.get("href", "#").startswith("#")
    policy = next(attrs["content"] for tag, attrs in page.tags if "http-equiv" in attrs)
    assert policy.startswith("default-src 'none'") and "http" not in policy


def test_the_page_can_be_used_without_seeing_it(page):
    roles = [attrs for _, attrs in page.tags if attrs.get("role") == "img"]
    assert roles and all("aria-label" in a or "aria-describedby" in a for a in roles)
    assert ("html", {"lang": "en"}) in page.tags
    ids = [attrs["id"] for _, attrs in page.tags if "id" in attrs]
    assert len(ids) == len(set(ids))
    for tag, attrs in page.tags:
        if tag == "a":
            assert attrs["href"][1:] in ids


def test_the_same_recording_gives_the_same_page(page, recording, tmp_path):
    assert read(recording, tmp_path / "again.html").html == page.html


def test_names_and_texts_are_never_code(tmp_path):
    config = json.dumps({HOSTILE: HOSTILE, "nested": {"a": [1, "<b>"]}})
    path = write_hostile(tmp_path / "a'b&<i>.h5", config=config)
    page = read([path, write_recording(tmp_path / "b.h5", 12, 3)], tmp_path / "page.html")
    tags = [tag for tag, _ in page.tags]
    assert tags.count("script") == 3 and "img" not in tags and "b" not in tags
    assert all(not key.startswith("on") for _, attrs in page.tags for key in attrs)
    text = page.all_text()
    assert HOSTILE in text and "54439" not in text
    assert HOSTILE in text_of_table(page, "th") and json.dumps(HOSTILE, ensure_ascii=False) in text
    assert "a'b&<i>" in page.text_of("option")
    names = page.data["runs"][0]["grids"]["grad_norm"]["names"]
    assert all(HOSTILE in name for name in names)


def text_of_table(page, tag):
    return "\n".join(page.text_of(tag))


@pytest.mark.slow
def test_ten_thousand_rows_of_sixty_layers_stay_below_five_megabytes(tmp_path, monkeypatch):
    create = layout.create_variable  # compressing 300 MB of noise would take most of the time
    unpacked = {"is_packed": False}
    monkeypatch.setattr(
        layout, "create_variable", lambda *args, **options: create(*args, **options | unpacked)
    )
    path = write_recording(tmp_path / "large.h5", 10_000, 60)
    every = read(path, tmp_path / "one.html", quantities=["grad_norm"])
    (run,) = every.data["runs"]
    assert run["columns"][0]["merged"] == 1
    assert values_of(run, "grad_norm")[0].shape == (60, 10_000)
    usual = read(path, tmp_path / "usual.html")
    (run,) = usual.data["runs"]
    assert len(run["grids"]) == 9 and run["columns"][0]["merged"] <= 8
    for page in (every, usual):
        assert len(page.html.encode()) < 5_000_000


def test_a_run_that_is_being_written(tmp_path):
    columns, params, _ = synthetic_columns(8, 3)
    writer = RecordingWriter(tmp_path / "live.h5", attrs={"model_name": "plain"})
    writer.set_axis("param", params)
    writer.append("gradients", columns["gradients"])
    writer.append("training", columns["training"])
    writer.flush(wait=True)
    page = read(tmp_path / "live.h5", tmp_path / "page.html")
    assert "running" in page.all_text() and "what was on disk" in page.all_text()
    assert values_of(page.data["runs"][0], "grad_norm")[0].shape == (3, 8)
    assert "No configuration was recorded" in page.all_text()
    writer.close(status="finished")


def test_a_run_without_a_step_says_so(tmp_path):
    RecordingWriter(tmp_path / "empty.h5", attrs={}).close(status="interrupted")
    page = read(tmp_path / "empty.h5", tmp_path / "page.html")
    assert "No quantity by layer was recorded so far" in page.all_text()
    assert page.data["quantities"] == {} and page.data["runs"][0]["grids"] == {}


def test_runs_of_different_networks_are_compared(tmp_path):
    paths = [
        write_recording(tmp_path / f"{name}.h5", n, layers, seed=seed, model_name=name)
        for name, n, layers, seed in (("small", 20, 3, 1), ("large", 50, 9, 2))
    ]
    page = read(paths, tmp_path / "page.html")
    assert page.text_of("option")[:2] == ["small", "large"]
    assert [len(run["grids"]["grad_norm"]["names"]) for run in page.data["runs"]] == [3, 9]
    headers = page.text_of("th")
    assert {"model_name", "seed", "val_accuracy"} <= set(headers) and "alpha" in headers
    compared = page.html[page.html.index('id="comparison"') : page.html.index('id="configuration"')]
    assert re.findall(r"<th scope=\"col\">(\w+)</th>", compared).count("dataset_name") == 0
    sections = [attrs["data-run"] for _, attrs in page.tags if "data-run" in attrs]
    assert sections.count("0") == sections.count("1") == 3


def test_an_unfinished_page_is_not_left_behind_and_an_old_one_survives(recording, tmp_path):
    out = tmp_path / "page.html"
    out.write_text("old")
    damaged = tmp_path / "damaged.h5"
    shutil.copy(recording, damaged)
    damaged.write_bytes(damaged.read_bytes()[:2000])
    with pytest.raises((ValueError, OSError), match="damaged"):
        write_report([recording, damaged], out)
    assert out.read_text() == "old"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["damaged.h5", "page.html"]


def test_the_library_offers_no_cloud():
    script = resources.files("gradscope.report").joinpath("picture.js").read_text("utf-8")
    for option in ("showSendToCloud", "showEditInChartStudio", "showLink"):
        assert f"{option}: false" in script
    assert 'plotlyServerURL: ""' in script


def test_the_page_may_reach_nothing(tmp_path):
    page = read(write_recording(tmp_path / "run.h5", 5, 2), tmp_path / "page.html")
    metas = [attrs for tag, attrs in page.tags if tag == "meta"]
    policy = next(a["content"] for a in metas if "http-equiv" in a)
    assert policy.startswith("default-src 'none'") and "connect-src" not in policy
    assert "http" not in policy and "form-action" not in policy
