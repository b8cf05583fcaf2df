"""The workflows and issue forms parse, and run the Python versions that the package names."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parent.parent
GITHUB = ROOT / ".github"
WORKFLOWS = sorted((GITHUB / "workflows").glob("*.yml"))
FORMS = sorted(GITHUB.glob("ISSUE_TEMPLATE/*_*.yml"))


def read(path):
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def project():
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def python_versions():
    prefix = "Programming Language :: Python :: 3."
    return [c.rpartition(" ")[2] for c in project()["classifiers"] if c.startswith(prefix)]


def test_ci_runs_every_python_of_the_classifiers():
    jobs = read(GITHUB / "workflows" / "ci.yml")["jobs"]
    assert jobs["test"]["strategy"]["matrix"]["python"] == python_versions()


def test_the_lowest_versions_are_tried_on_the_lowest_python():
    lowest = python_versions()[0]
    assert project()["requires-python"] == f">={lowest}"
    steps = read(GITHUB / "workflows" / "ci.yml")["jobs"]["lowest"]["steps"]
    assert lowest in [s.get("with", {}).get("python-version") for s in steps]
    assert any("--resolution lowest-direct" in s.get("run", "") for s in steps)


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda p: p.stem)
def test_a_workflow_asks_for_little_and_pins_its_actions(path):
    workflow = read(path)
    assert workflow["permissions"] == {"contents": "read"}
    assert "group" in workflow["concurrency"]
    for job in workflow["jobs"].values():
        assert set(job.get("permissions", {})) <= {"id-token"}
        assert job["timeout-minutes"] <= 60
        for action in (s["uses"] for s in job["steps"] if "uses" in s):
            assert re.fullmatch(r"[\w-]+/[\w-]+@(v\d+|release/v\d+)", action)


@pytest.mark.parametrize("path", FORMS, ids=lambda p: p.stem)
def test_an_issue_form_names_each_of_its_fields(path):
    form = read(path)
    assert form["name"] and form["description"]
    ids = [part["id"] for part in form["body"]]
    assert len(set(ids)) == len(ids)
    assert all(part["attributes"]["label"] for part in form["body"])


def test_a_bug_report_asks_for_version_platform_and_recording():
    assert {"version", "platform", "recording"} <= {
        part["id"] for part in read(GITHUB / "ISSUE_TEMPLATE" / "bug_report.yml")["body"]
    }
