"""The house rules: who may import whom, and what an import may cost."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "gradscope"

# Room -> rooms of ours that it may import. Everyone may import schema, errors and itself.
MAY_IMPORT = {
    "schema": set(),
    "errors": set(),
    "native": set(),
    "optim": {"native"},
    "stats": set(),
    "derived": {"stats"},
    "store.writer": set(),
    "store.reader": {"derived"},
    "plots": {"stats", "derived"},
    "record": {"native", "store.writer"},
    "experiments": {"optim", "record", "stats", "store.reader"},
    "report": {"store.reader", "derived", "stats", "plots"},
    "view": {"store.reader", "store.writer", "derived", "stats", "plots", "report"},
    "integrations": {"record", "store.reader", "store.writer", "derived", "plots", "view"},
    "cli": {
        "record",
        "optim",
        "store.reader",
        "store.writer",
        "derived",
        "stats",
        "plots",
        "report",
        "view",
        "experiments",
        "integrations",
    },
}
# Rooms of the store that the training process loads; the others belong to reading.
WRITING = {"format", "write"}
FORBIDDEN = {
    "schema": {"torch", "xarray", "scipy", "matplotlib", "numpy", "h5py"},
    "errors": {"torch", "xarray", "scipy", "matplotlib", "numpy", "h5py"},
    "stats": {"torch"},
    "plots": {"torch", "h5py"},
    "derived": {"torch", "h5py"},
    "store.reader": {"torch"},
    "record": {"xarray", "scipy", "matplotlib", "h5py"},
    "optim": {"xarray", "scipy", "matplotlib", "h5py"},
    "store.writer": {"torch", "xarray", "scipy", "matplotlib"},
    "experiments": {"h5py"},
    "cli": {"h5py"},
    "report": {"h5py"},
    "view": {"h5py", "torch"},
}
# Imports inside these functions are hands reaching up on purpose: a notebook asks its recorder for
# the live data or the picture, and a user for alerts by the health rules. Each is one lazy line.
REACHES_UP = {
    ("record", "gradscope.store.read.recording"),
    ("record", "gradscope.plots"),
    ("record", "gradscope.derived.health"),
}


def room_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    if parts[0] != "store":
        return parts[0]
    return "store.writer" if len(parts) > 1 and parts[1] in WRITING else "store.reader"


def room_of_module(module: str) -> str:
    parts = module.split(".")[1:]
    if parts[:1] != ["store"]:
        return parts[0] if parts else ""
    return "store.writer" if len(parts) > 1 and parts[1] in WRITING else "store.reader"


def imports(path: Path) -> list[tuple[str, bool]]:
    """Every imported module of a file, and whether it stands at module level."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    nested = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        or (isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test))
        for inner in ast.walk(node)
    }
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(alias.name, id(node) not in nested) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            modules = [node.module or ""]
            if node.module and (ROOT / node.module.replace(".", "/")).is_dir():
                modules = [f"{node.module}.{alias.name}" for alias in node.names]
            found += [(module, id(node) not in nested) for module in modules]
    return found


FILES = [p for p in sorted(PACKAGE.rglob("*.py")) if p.parent != PACKAGE or p.stem in MAY_IMPORT]


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_nothing_points_up(path):
    room = room_of(path)
    for module, is_top in imports(path):
        if not module.startswith("gradscope."):
            assert not (is_top and module.split(".")[0] in FORBIDDEN.get(room, ())), (
                f"{room} may not import {module}"
            )
            continue
        target = room_of_module(module)
        allowed = MAY_IMPORT[room] | {room, "schema", "errors", "__version__"}
        if room.startswith("store."):
            allowed |= {"store.writer"}
        reaches = any(room == r and module.startswith(m) for r, m in REACHES_UP)
        assert target in allowed or (reaches and not is_top), f"{path} imports {module}"


@pytest.mark.parametrize("room", sorted(p.name for p in PACKAGE.iterdir() if p.is_dir()))
def test_rooms_init_imports_nothing(room):
    init = PACKAGE / room / "__init__.py"
    if init.exists() and room != "schema":  # data on the standard library, read as one module
        assert {module for module, _ in imports(init)} <= {"lazy_loader"}


def test_only_the_store_touches_h5py():
    for path in PACKAGE.rglob("*.py"):
        if "store" not in path.relative_to(PACKAGE).parts:
            assert all(m.split(".")[0] != "h5py" for m, _ in imports(path)), path


def test_package_does_not_know_the_study_and_figures_do_not_know_analyses():
    for path in PACKAGE.rglob("*.py"):
        assert all(m.split(".")[0] not in {"analyses", "figures"} for m, _ in imports(path)), path
    for path in (ROOT / "figures").rglob("*.py"):
        assert all(m.split(".")[0] != "analyses" for m, _ in imports(path)), path


def loaded_by(code: str) -> set[str]:
    program = f"import sys\n{code}\nprint('\\n'.join({{m.split('.')[0] for m in sys.modules}}))"
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT
    )
    return set(result.stdout.split())


@pytest.mark.parametrize(
    ("code", "heavy"),
    [
        ("import gradscope", {"torch", "numpy", "xarray", "h5py", "matplotlib"}),
        (
            "import contextlib, io\n"
            "from gradscope.cli.main import main\n"
            "with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):\n"
            "    main(['--help'])",
            {"torch", "numpy", "xarray", "h5py", "matplotlib", "sklearn"},
        ),
        ("from gradscope import Recorder", {"xarray", "scipy", "matplotlib", "dask"}),
        ("from gradscope import open_recording", {"torch", "matplotlib"}),
    ],
    ids=["import", "help", "record", "read"],
)
def test_imports_stay_light(code, heavy):
    assert not loaded_by(code) & heavy


def test_importing_changes_no_global_state():
    program = (
        "import matplotlib, torch, random, logging, rich.progress\n"
        "before = (dict(matplotlib.rcParams), torch.backends.cudnn.benchmark, random.getstate(),\n"
        "          torch.get_rng_state().sum().item(), len(logging.getLogger().handlers))\n"
        "import pkgutil, importlib, gradscope\n"
        "for m in pkgutil.walk_packages(gradscope.__path__, 'gradscope.'):\n"
        "    if not any(s in m.name for s in ('integrations', '__main__', 'optim.kernels.cuda')):\n"
        "        importlib.import_module(m.name)\n"
        "after = (dict(matplotlib.rcParams), torch.backends.cudnn.benchmark, random.getstate(),\n"
        "         torch.get_rng_state().sum().item(), len(logging.getLogger().handlers))\n"
        "assert before == after\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, cwd=ROOT)
