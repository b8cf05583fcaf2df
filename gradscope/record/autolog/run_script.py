"""Run a training script as Python would, and record it.

The script sees what ``python SCRIPT ARGS`` gives it: ``sys.argv``, ``__main__``, ``sys.path[0]``,
its own standard streams and signals, and its traceback. torch is not loaded before the script does
it, so that environment variables which the script sets first still count.
"""

from __future__ import annotations

import builtins
import importlib.abc
import importlib.util
import runpy
import sys
import types
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.machinery import ModuleSpec, SourceFileLoader
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gradscope.errors import UsageError
from gradscope.record.autolog.options import Recorded, ScriptOptions
from gradscope.record.health.watch import Stopped

if TYPE_CHECKING:
    from gradscope.record.autolog.session import Session

PACKAGE = str(Path(__file__).parents[2])


@dataclass(frozen=True)
class ScriptOutcome:
    """How a script ended and what was recorded of it.

    ``why_nothing`` is empty if something was, ``why_stopped`` unless a health rule ended it, or
    would have ended it had it not come to its end before (``has_ended_itself``).
    """

    exit_code: int
    recorded: tuple[Recorded, ...]
    why_nothing: str
    problems: tuple[str, ...]
    why_stopped: str = ""
    has_ended_itself: bool = False


def record_script(
    words: Sequence[str], options: ScriptOptions, *, is_module: bool = False
) -> ScriptOutcome:
    """Run ``python SCRIPT ARGS``, or ``python -m MODULE ARGS``, and record every training in it.

    Parameters
    ----------
    words : sequence of str
        The script or module and its arguments.
    options : ScriptOptions
        Where to and how.
    is_module : bool
        Whether the first word names a module.

    Returns
    -------
    ScriptOutcome

    Raises
    ------
    UsageError
        If there is no such file or module.
    """
    execute = _module_runner(words[0]) if is_module else _file_runner(words[0])
    sessions: list[Session] = []
    failures: list[str] = []

    def begin() -> None:
        try:
            from gradscope.record.autolog.session import Session

            sessions.append(Session(options))
            sessions[0].start()
        except Exception as error:  # the script's own import of torch has succeeded
            failures.append(f"gradscope could not start: {type(error).__name__}: {error}")
            while sessions:
                sessions.pop().stop()

    folder = str(Path.cwd()) if is_module else str(Path(words[0]).resolve().parent)
    with _as_main(list(words), folder), _after_import("torch", begin):
        exit_code, status = _run(execute)
        for session in sessions:
            session.stop(status)
    if not sessions:
        why = "".join(failures) or "the script did not import torch"
        return ScriptOutcome(exit_code, (), why, ())
    session = sessions[0]
    why = "" if session.recorded else session.why_nothing()
    has_ended = bool(session.why_stopped) and exit_code == 0
    exit_code = Stopped.CODE if has_ended else exit_code
    stopped = session.why_stopped if exit_code == Stopped.CODE else ""
    recorded, problems = tuple(session.recorded), tuple(session.problems)
    return ScriptOutcome(exit_code, recorded, why, problems, stopped, has_ended)


def _module_runner(name: str) -> Callable[[], object]:
    if importlib.util.find_spec(name.partition(".")[0]) is None:
        sys.path.insert(0, str(Path.cwd()))
        try:
            if importlib.util.find_spec(name.partition(".")[0]) is None:
                raise UsageError(f"there is no module {name!r} to record")
        finally:
            sys.path.pop(0)
    return lambda: runpy.run_module(name, run_name="__main__", alter_sys=True)


def _file_runner(name: str) -> Callable[[], object]:
    path = Path(name)
    if path.is_dir() or path.suffix in (".zip", ".pyz"):
        return lambda: runpy.run_path(name, run_name="__main__")
    if not path.is_file():
        raise UsageError(f"there is no script {name!r}; options of gradscope stand before it")
    return lambda: _execute(path)


def _execute(path: Path) -> None:
    """Run a source file in the module that is ``__main__`` now."""
    full = str(path.absolute())
    loader = SourceFileLoader("__main__", full)
    module = sys.modules["__main__"]
    module.__dict__.update(
        __file__=full, __loader__=loader, __builtins__=builtins, __cached__=None, __spec__=None
    )
    exec(compile(path.read_bytes(), full, "exec"), module.__dict__)


@contextmanager
def _as_main(argv: list[str], folder: str) -> Iterator[None]:
    """Make ``sys`` look as it does to a program of its own."""
    before = sys.argv, sys.path[:], sys.modules["__main__"]
    sys.argv = argv
    if not sys.flags.safe_path:
        sys.path[:1] = [folder]
    sys.modules["__main__"] = types.ModuleType("__main__")
    try:
        yield
    finally:
        sys.argv, sys.path[:], sys.modules["__main__"] = before


class _Finder(importlib.abc.MetaPathFinder):
    """Calls back once, right after a module was imported; a mere look for its spec is not that."""

    def __init__(self, name: str, then: Callable[[], None]) -> None:
        self._name, self._then = name, then

    def find_spec(self, name: str, path: Any, target: Any = None) -> ModuleSpec | None:
        if name != self._name:
            return None
        others = [f for f in sys.meta_path if f is not self and hasattr(f, "find_spec")]
        specs = (finder.find_spec(name, path, target) for finder in others)
        spec = next((found for found in specs if found is not None), None)
        if spec is None or spec.loader is None:
            return spec
        load = spec.loader.exec_module

        def exec_module(module: types.ModuleType) -> None:
            load(module)
            if self in sys.meta_path:
                sys.meta_path.remove(self)
                self._then()

        spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


@contextmanager
def _after_import(name: str, then: Callable[[], None]) -> Iterator[None]:
    """Call ``then`` as soon as a module is there; at once if it is already."""
    if name in sys.modules:
        then()
        yield
        return
    finder = _Finder(name, then)
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        if finder in sys.meta_path:
            sys.meta_path.remove(finder)


def _run(execute: Callable[[], object]) -> tuple[int, str | None]:
    """Run to the end, however it comes: exit code, and status of the recording (None: it knows)."""
    try:
        execute()
    except Stopped as end:
        return end.CODE, "interrupted"
    except SystemExit as end:
        code = _exit_code(end)
        return code, "failed" if code else None
    except BaseException as error:
        is_interrupt = isinstance(error, KeyboardInterrupt)
        is_of_script = is_interrupt or isinstance(error, SyntaxError)
        trace = _without_us(error.__traceback__, may_end_with_us=not is_of_script)
        sys.excepthook(type(error), error.with_traceback(trace), trace)
        return (130, "interrupted") if is_interrupt else (1, "failed")
    return 0, None


def _exit_code(end: SystemExit) -> int:
    """Read the code as the interpreter does: a text is printed and means 1."""
    if end.code is None or isinstance(end.code, int):
        return end.code or 0
    print(end.code, file=sys.stderr)
    return 1


def _without_us(
    trace: types.TracebackType | None, *, may_end_with_us: bool
) -> types.TracebackType | None:
    """Drop the frames of gradscope and runpy; all stay where the error was raised in gradscope."""
    frames: list[types.TracebackType] = []
    while trace is not None:
        frames.append(trace)
        trace = trace.tb_next
    if may_end_with_us and _is_ours(frames[-1]):
        return frames[0]
    begin = next((i for i, f in enumerate(frames) if not _is_machinery(f)), len(frames))
    joined: types.TracebackType | None = None
    for f in reversed([f for f in frames[begin:] if not _is_ours(f)]):
        joined = types.TracebackType(joined, f.tb_frame, f.tb_lasti, f.tb_lineno)
    return joined


def _is_ours(trace: types.TracebackType) -> bool:
    return trace.tb_frame.f_code.co_filename.startswith(PACKAGE)


def _is_machinery(trace: types.TracebackType) -> bool:
    name = trace.tb_frame.f_code.co_filename
    return _is_ours(trace) or name in ("<frozen runpy>", runpy.__file__)
