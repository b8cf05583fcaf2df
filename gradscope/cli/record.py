"""Train and record: gradients, second moments, updates and signals of every layer.

Without a SCRIPT the built-in experiment trains: VGG13 on handwritten digits, unless options or a
configuration file say otherwise. Options stand before SCRIPT; what follows belongs to it.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gradscope.errors import RecordingExistsError, UsageError
from gradscope.experiments.config import Config, read_toml
from gradscope.experiments.options import option_of, read

if TYPE_CHECKING:
    from gradscope.experiments.loop import Outcome

SUMMARY = "train the built-in experiment and record it"
EXIT_CODES = {"finished": 0, "diverged": 0, "interrupted": 130}


def configure(parser: argparse.ArgumentParser) -> None:
    """Add a flag for each configuration key, and those of the command itself."""
    parser.usage = "gradscope record [OPTIONS] [SCRIPT [ARGS ...]]"
    parser.add_argument("--config", metavar="FILE", help="a .toml file, or a recording to rerun")
    parser.add_argument("--out", metavar="PATH", help="the recording (default: runs/<what>.h5)")
    parser.add_argument("--overwrite", action="store_true", help="replace an existing recording")
    parser.add_argument("--quiet", action="store_true", help="print warnings and errors only")
    experiment = parser.add_argument_group("experiment")
    for config_field in dataclasses.fields(Config):
        _add_flag(experiment, config_field)
    parser.add_argument(
        "script", nargs=argparse.REMAINDER, metavar="SCRIPT", help="not yet: somebody's script"
    )


def _add_flag(group: argparse._ArgumentGroup, config_field: dataclasses.Field[Any]) -> None:
    declared = option_of(config_field)
    flag = "--" + config_field.name.replace("_", "-")
    common: dict[str, Any] = {"dest": f"key_{config_field.name}", "default": argparse.SUPPRESS}
    if declared.kind == "bool":
        group.add_argument(
            flag, action=argparse.BooleanOptionalAction, help=declared.help, **common
        )
        return
    has_default = config_field.default not in (None, ())
    words = f" (default: {config_field.default})" if has_default else ""
    metavar = config_field.name.split("_")[-1].upper()
    group.add_argument(flag, metavar=metavar, help=declared.help + words, **common)


def run(arguments: argparse.Namespace) -> int:
    """Train, record, and say what came of it."""
    script = [word for word in arguments.script if word != "--"]
    if script:
        raise UsageError(
            f"recording a script is not possible yet; got {script[0]!r}. "
            "Leave it out to train the built-in experiment"
        )
    config = read_config(arguments)
    path = Path(arguments.out) if arguments.out is not None else default_path(config)
    _check_output(path, is_overwritten=arguments.overwrite)

    from gradscope.cli.progress import Display, one_interrupt
    from gradscope.experiments.loop import Observers, train

    if_exists = "overwrite" if arguments.overwrite else "error"
    with one_interrupt() as should_stop, Display(is_quiet=arguments.quiet) as display:
        observers = Observers(display.start, display.show, should_stop)
        outcome = train(config, path, if_exists=if_exists, observers=observers)
    if not arguments.quiet:
        print(summarise(outcome, path))
    if outcome.status == "diverged":
        print(f"gradscope record: warning: {explain_divergence(outcome)}", file=sys.stderr)
    return EXIT_CODES[outcome.status]


def read_config(arguments: argparse.Namespace) -> Config:
    """Put flags over the file over the defaults.

    Raises
    ------
    UsageError
        If a key or a value cannot be used.
    """
    config = Config()
    if arguments.config is not None:
        source = Path(arguments.config)
        values = read_toml(source) if source.suffix == ".toml" else _read_recorded(source)
        config = Config.from_mapping(values, source=str(source))
    kinds = {f.name: option_of(f).kind for f in dataclasses.fields(Config)}
    flags = {
        name.removeprefix("key_"): value
        for name, value in vars(arguments).items()
        if name.startswith("key_")
    }
    return config.replace(
        **{
            name: read(value, kinds[name]) if isinstance(value, str) else value
            for name, value in flags.items()
        }
    )


def _read_recorded(path: Path) -> dict[str, Any]:
    from gradscope.store.reader import open_recording

    text = open_recording(path).attrs.get("config_json", "")
    if not text:
        raise UsageError(f"{path} holds no configuration; the built-in experiment did not make it")
    return json.loads(text)


def default_path(config: Config) -> Path:
    """Return ``runs/<dataset>-<model>-a<alpha>-s<seed>-<UTC>.h5``."""
    import datetime

    now = datetime.datetime.now(datetime.UTC)
    name = f"{config.dataset}-{config.model}-a{config.alpha:g}-s{config.seed}"
    return Path("runs") / f"{name}-{now:%Y%m%dT%H%M%SZ}.h5"


def _check_output(path: Path, *, is_overwritten: bool) -> None:
    if path.is_dir():
        raise UsageError(f"--out {path} is a folder; name a file, such as {path / 'run.h5'}")
    if path.exists() and not is_overwritten:
        raise RecordingExistsError(f"{path} exists; name another --out or give --overwrite")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        probe = path.with_name(f".{path.name}.probe")
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror or error}") from error


def summarise(outcome: Outcome, path: Path) -> str:
    """Return the short table at the end of a run and the next command to type."""
    metrics = outcome.metrics
    split = "test" if "test_accuracy" in metrics else "val"
    share = outcome.record_seconds / max(outcome.seconds, 1e-9)
    rows = {
        "status": f"{outcome.status} at step {outcome.step:,}, {outcome.seconds:.1f} s of training",
        f"{split} accuracy": f"{metrics[f'{split}_accuracy']:.2%}",
        f"{split} loss": f"{metrics[f'{split}_loss']:.4f} nat",
        "recording": f"{path} ({format_bytes(path.stat().st_size)})",
        "cost of recording": f"{outcome.record_seconds:.1f} s, {share:.0%} of training",
        "next": f"gradscope plot {shlex.quote(str(path))}",
    }
    return "\n".join(f"{name:<19}{value}" for name, value in rows.items())


def explain_divergence(outcome: Outcome) -> str:
    """Say where the loss was lost, in one line."""
    words = f"the loss was not finite at step {outcome.step}; the recording is kept. "
    if outcome.first_nonfinite is None:
        return words + "No recorded gradient before it was non-finite; try a smaller --lr"
    step, layer = outcome.first_nonfinite
    return words + f"The first non-finite gradient came at step {step} in layer {layer}"


def format_bytes(n_bytes: float) -> str:
    """Write bytes in the unit that suits them.

    >>> format_bytes(346903)
    '347 kB'
    """
    for unit in ("B", "kB", "MB", "GB"):
        if n_bytes < 1000 or unit == "GB":
            break
        n_bytes /= 1000
    return f"{n_bytes:.3g} {unit}"
