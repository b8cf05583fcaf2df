"""Public names: every one resolves, and none hides a module of its room."""

from __future__ import annotations

import ast
import importlib
import re
import sys
import tomllib
from pathlib import Path

import pytest

import gradscope
from gradscope.errors import GradscopeError, MissingPackageError, imports_of_extra

ROOT = Path(__file__).parent.parent
STUBS = sorted((ROOT / "gradscope").rglob("__init__.pyi"))
ROOMS = [".".join(stub.parent.relative_to(ROOT).parts) for stub in STUBS]


def names_in(stub: Path) -> list[str]:
    tree = ast.parse(stub.read_text(encoding="utf-8"))
    return [a.name for node in tree.body if isinstance(node, ast.ImportFrom) for a in node.names]


@pytest.mark.parametrize("room", ROOMS)
def test_every_public_name_resolves(room):
    module = importlib.import_module(room)
    stub = ROOT.joinpath(*room.split("."), "__init__.pyi")
    assert sorted(module.__all__) == sorted(names_in(stub))
    for name in module.__all__:
        getattr(module, name)


def test_the_reference_lists_every_public_name():
    """Each function, class and constant of a room, and nothing else."""
    listed = re.findall(
        r"^   (\w[\w.]*)$", (ROOT / "docs/api.md").read_text(encoding="utf-8"), re.M
    )
    public = {
        f"{room}.{name}"
        for room, stub in zip(ROOMS, STUBS, strict=True)
        for name in names_in(stub)
        if not hasattr(getattr(importlib.import_module(room), name), "__path__")
    }
    modules = {name for name in public if name in sys.modules}
    classes = {name for name in listed if name.rpartition(".")[0] in modules}
    assert len(listed) == len(set(listed))
    assert set(listed) - classes == public - modules - {"gradscope.optim.SMES"}  # once


@pytest.mark.parametrize("stub", STUBS, ids=ROOMS)
def test_no_function_is_named_like_a_module_beside_it(stub):
    """Importing the module would set the room's attribute to it and hide the function."""
    tree = ast.parse(stub.read_text(encoding="utf-8"))
    modules = {p.stem for p in stub.parent.iterdir() if p.suffix == ".py" or p.is_dir()}
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and node.module:
            assert not {alias.name for alias in node.names} & modules


def test_names_that_the_documentation_teaches():
    for name in (
        "Recorder",
        "SMES",
        "open_recording",
        "open_runs",
        "latest",
        "check_health",
        "compare_runs",
        "aggregate",
        "select",
        "stats.tost",
        "optim.AlphaScheduler",
    ):
        value = gradscope
        for part in name.split("."):
            value = getattr(value, part)
        assert callable(value), name
    with pytest.raises(AttributeError, match="no_such_name"):
        importlib.import_module("gradscope").no_such_name  # noqa: B018


def test_one_version():
    """The package, the citation and the change log agree."""
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert re.findall(r"^version: (\S+)$", citation, re.M) == [gradscope.__version__]
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.search(rf"^## \[?{re.escape(gradscope.__version__)}\b", changes, re.M)
    with (ROOT / "pyproject.toml").open("rb") as file:
        project = tomllib.load(file)["project"]
    assert "version" not in project and project["dynamic"] == ["version"]


@pytest.mark.parametrize(
    ("module", "package", "extra"),
    [
        ("gradscope.report.page", "plotly", "report"),
        ("gradscope.report.page", "jinja2", "report"),
        ("gradscope.integrations.lightning", "lightning", "lightning"),
        ("gradscope.integrations.transformers", "transformers", "transformers"),
    ],
)
def test_module_of_an_absent_extra_says_what_to_install(module, package, extra, monkeypatch):
    monkeypatch.delitem(sys.modules, module, raising=False)
    for name in [n for n in sys.modules if n.partition(".")[0] == package]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingPackageError) as caught:
        importlib.import_module(module)
    assert str(caught.value) == (
        f"{package} is not installed; run: pip install 'gradscope[{extra}]'"
    )


@pytest.mark.parametrize(
    ("arguments", "package", "extra"),
    [
        (["record", "--dataset", "digits", "--steps", "1"], "sklearn", "experiments"),
        (
            ["record", "--model", "torchvision.resnet18", "--steps", "1"],
            "torchvision",
            "experiments",
        ),
    ],
)
def test_command_without_its_extra_is_one_line(
    arguments, package, extra, monkeypatch, tmp_path, capsys
):
    from gradscope.cli.main import main

    monkeypatch.chdir(tmp_path)
    for name in [n for n in sys.modules if n.partition(".")[0] == package]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    assert main(arguments) == 2
    message = capsys.readouterr().err.strip()
    assert message == (
        f"gradscope record: {package} is not installed; run: pip install 'gradscope[{extra}]'"
    )


def test_other_errors_of_an_import_are_not_hidden():
    with pytest.raises(ZeroDivisionError), imports_of_extra("report"):
        raise ZeroDivisionError
    assert issubclass(MissingPackageError, (GradscopeError, ImportError))


def test_extras_are_complete():
    with (ROOT / "pyproject.toml").open("rb") as file:
        extras = tomllib.load(file)["project"]["optional-dependencies"]
    (everything,) = extras["all"]
    named = everything.removeprefix("gradscope[").removesuffix("]").split(",")
    assert set(named) == set(extras) - {"all"}
    asked = {
        name
        for path in (ROOT / "gradscope").rglob("*.py")
        for name in re.findall(r'imports_of_extra\("(\w+)"\)', path.read_text(encoding="utf-8"))
    }
    assert asked <= set(extras)
