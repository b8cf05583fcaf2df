"""Limits of size and shape: folders, files, functions, import cycles, the tree of the tests."""

from __future__ import annotations

import ast
import functools
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).parent.parent
TOPS = ("gradscope", "analyses", "figures", "benchmarks", "tests", "docs")
MAX_FILES, MAX_LINES, MAX_FUNCTION = 12, 300, 60

# Folders of tests that stand for no folder of the repository.
OTHER_TESTS = {
    "tests/record/loops",
    "tests/record/faults",
    "tests/docs",
    "tests/figures",
    "tests/analyses",
    "tests/benchmarks",
}


@functools.cache
def sources() -> dict[Path, ast.Module]:
    paths = (path for top in TOPS for path in sorted((ROOT / top).rglob("*.py")))
    return {path: ast.parse(path.read_text(encoding="utf-8")) for path in paths}


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def test_folders_hold_a_dozen_files_at_most():
    counts: dict[Path, int] = defaultdict(int)
    for path in sources():
        counts[path.parent] += path.name != "__init__.py"
    large = {relative(folder): n for folder, n in counts.items() if n > MAX_FILES}
    assert not large


def test_files_are_read_in_one_sitting():
    lines = {relative(p): len(p.read_text(encoding="utf-8").splitlines()) for p in sources()}
    large = {name: n for name, n in lines.items() if n > MAX_LINES}
    assert not large


def test_functions_do_one_thing():
    """Lines of a function, its docstring aside."""
    large = {}
    for path, tree in sources().items():
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                doc = ast.get_docstring(node, clean=False)
                n_doc = 0 if doc is None else doc.count("\n") + 1
                n_lines = (node.end_lineno or 0) - node.lineno + 1 - n_doc
                if n_lines > MAX_FUNCTION:
                    large[f"{relative(path)}:{node.lineno} {node.name}"] = n_lines
    assert not large


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def import_graph() -> dict[str, set[str]]:
    """Module -> modules of ours that it imports, also inside functions; no TYPE_CHECKING blocks."""
    modules = {module_name(path): tree for path, tree in sources().items()}
    graph: dict[str, set[str]] = {}
    for module, tree in modules.items():
        typing_only = {
            id(inner)
            for node in ast.walk(tree)
            if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
            for inner in ast.walk(node)
        }
        names: set[str] = set()
        for node in ast.walk(tree):
            if id(node) in typing_only:
                continue
            if isinstance(node, ast.Import):
                names |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                names |= {node.module, *(f"{node.module}.{a.name}" for a in node.names)}
        parents = {module.rpartition(".")[0], "gradscope", module}
        graph[module] = (names & modules.keys()) - parents
    return graph


def cycles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Strongly connected components of more than one node (Tarjan 1972)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(node: str) -> None:
        index[node] = low[node] = len(index)
        stack.append(node)
        for target in graph.get(node, ()):
            if target not in index:
                visit(target)
                low[node] = min(low[node], low[target])
            elif target in stack:
                low[node] = min(low[node], index[target])
        if low[node] == index[node]:
            at = stack.index(node)
            component = stack[at:]
            del stack[at:]
            if len(component) > 1:
                found.append(sorted(component))

    for node in graph:
        if node not in index:
            visit(node)
    return found


def test_cycles_are_found():
    assert cycles({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": {"a"}}) == [["b", "c"]]


def test_no_cycle_of_files():
    assert cycles(import_graph()) == []


def test_no_cycle_of_sibling_rooms():
    """At each depth: what two folders with the same parent import of each other."""
    graph = import_graph()
    for depth in range(1, 4):
        rooms: dict[str, set[str]] = defaultdict(set)
        for module, targets in graph.items():
            here = module.split(".")
            for target in targets:
                there = target.split(".")
                is_sibling = here[:depth] == there[:depth] and here[depth:][:1] != there[depth:][:1]
                if is_sibling and min(len(here), len(there)) > depth + 1:
                    rooms[".".join(here[: depth + 1])].add(".".join(there[: depth + 1]))
        assert cycles(rooms) == []


def test_tests_mirror_the_package():
    for path in sources():
        place = path.parent.relative_to(ROOT)
        if place.parts[0] != "tests" or not path.name.startswith("test_"):
            continue
        is_other = any(place.is_relative_to(folder) for folder in OTHER_TESTS)
        mirrored = ROOT / "gradscope" / place.relative_to("tests")
        assert is_other or mirrored.is_dir(), f"{relative(path)} mirrors no folder of gradscope/"
