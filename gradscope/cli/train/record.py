"""Train and record: gradients, second moments, updates and activations of every layer.

Without a SCRIPT, the built-in experiment is trained: VGG13 on handwritten digits, or as options and
the configuration file say. Options of gradscope precede SCRIPT; those after it are the script's.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import re
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gradscope.cli.output import check_output, format_bytes, is_first_rank
from gradscope.cli.recordings import as_path, as_recording
from gradscope.cli.train.story import (
    LATE,
    STOPPED,
    add_sinks,
    add_story,
    feeding,
    list_rules,
    read_rules,
)
from gradscope.cli.values import read_overhead
from gradscope.errors import UsageError
from gradscope.experiments.config import Config, read_toml
from gradscope.experiments.training.options import option_of, read

if TYPE_CHECKING:
    from gradscope.experiments.training.checkpoint import Checkpoint
    from gradscope.experiments.training.loop import Outcome

SUMMARY = "record the training of a script, or of the built-in experiment"
EXIT_CODES = {"finished": 0, "diverged": 0, "interrupted": 130}
NEGATIVE_NUMBERS = re.compile(r"-(\d|\.\d|inf|nan)", re.IGNORECASE)
"""How words begin that are values; argparse alone takes -1e-3 for an option."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add a flag for each configuration key, and those of the command itself."""
    parser.usage = "gradscope record [OPTIONS] [SCRIPT [ARGS ...] | -m MODULE [ARGS ...]]"
    parser.add_argument(
        "--config", metavar="FILE", help="settings from a TOML file, or of a recording"
    )
    parser.add_argument(
        "-o", "--out", metavar="PATH", help="the recording (default: runs/<what>.h5)"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace an existing recording")
    parser.add_argument("--checkpoint-every", metavar="N", help="steps between checkpoints")
    parser.add_argument("--resume", metavar="PATH", help="continue a run from its checkpoint")
    parser.add_argument("--quiet", action="store_true", help="print warnings and errors only")
    parser.add_argument(
        "--json",
        action="store_true",
        help="end with a line of JSON on standard output: recordings, cost, last values, health",
    )
    parser.add_argument("--record", metavar="HOW", help="of a SCRIPT: light, standard or full")
    parser.add_argument(
        "--max-overhead",
        metavar="SHARE",
        help="record so few steps that recording takes at most this share of the time, as 2%%",
    )
    add_story(parser)
    add_sinks(parser)
    parser._negative_number_matcher = NEGATIVE_NUMBERS
    experiment = parser.add_argument_group("experiment")
    for config_field in dataclasses.fields(Config):
        _add_flag(experiment, config_field)
    parser.add_argument(
        "-m",
        nargs=argparse.REMAINDER,
        dest="module",
        metavar="MODULE",
        help="record `python -m MODULE ARGS`",
    )
    parser.add_argument(
        "script",
        nargs=argparse.REMAINDER,
        metavar="SCRIPT",
        help="record the unmodified `python SCRIPT ARGS`",
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
    if arguments.stop_on == ["list"]:
        return list_rules()
    script = arguments.script[arguments.script[:1] == ["--"] :]
    if arguments.module == []:
        raise UsageError("-m takes the name of a module")
    if script or arguments.module:
        from gradscope.cli.train.record_script import run_script

        if arguments.resume is not None or arguments.checkpoint_every is not None:
            raise UsageError(
                "--resume and --checkpoint-every are for the built-in experiment; a script keeps "
                "its own checkpoints, with `Recorder.state_dict()` in them"
            )
        return run_script(arguments, script, stop_on=read_rules(arguments.stop_on))
    if arguments.record is not None:
        raise UsageError("--record applies to a SCRIPT; the built-in experiment records all of it")
    rules = read_rules(arguments.stop_on)
    checkpoint = None if arguments.resume is None else read_checkpoint(arguments)
    config = read_config(arguments, checkpoint.config if checkpoint else None)
    path = _choose_path(arguments, config)
    if checkpoint is None and is_first_rank():
        check_output(path, is_overwritten=arguments.overwrite)

    from gradscope.cli.train.progress import Display, one_interrupt
    from gradscope.experiments.training.loop import Observers, train
    from gradscope.record.health.watch import StopOn

    alarm = StopOn(rules)
    story = {"name": arguments.name, "tags": arguments.tags, "notes": arguments.notes}
    story["max_overhead"] = read_overhead(arguments)
    is_quiet = arguments.quiet or not is_first_rank()
    with (
        feeding(arguments, lambda: [path]),
        one_interrupt() as should_stop,
        Display(is_quiet=is_quiet) as display,
    ):
        outcome = train(
            config,
            path,
            if_exists="overwrite" if arguments.overwrite else "error",
            observers=Observers(
                display.start,
                display.show,
                lambda: should_stop() or bool(alarm.reason),
                lambda: alarm.reason,
            ),
            checkpoint_every=_checkpoint_every(arguments),
            resume=checkpoint,
            story=story | {"on_health": alarm if rules else None},
        )
    code = _exit_code(outcome, alarm.reason)
    if is_first_rank():
        _tell(outcome, path, arguments, alarm.reason, code)
    return code


def _exit_code(outcome: Outcome, why_stopped: str) -> int:
    from gradscope.record.health.watch import Stopped

    return Stopped.CODE if why_stopped else EXIT_CODES[outcome.status]


def _tell(
    outcome: Outcome, path: Path, arguments: argparse.Namespace, why_stopped: str, code: int
) -> None:
    """Say what came of a run, and why it ended early."""
    if arguments.json:
        from gradscope.cli.train.result import print_result

        print_result([path], code, seconds=outcome.seconds)
    elif not arguments.quiet:
        print(summarise(outcome, path))
    if outcome.status == "diverged":
        print(f"gradscope record: warning: {explain_divergence(outcome)}", file=sys.stderr)
    if why_stopped:
        words = STOPPED if outcome.status == "interrupted" else LATE
        print(f"gradscope record: {words}{why_stopped}", file=sys.stderr)


def read_checkpoint(arguments: argparse.Namespace) -> Checkpoint:
    """Read the checkpoint that ``--resume`` names, itself or by its recording.

    Raises
    ------
    UsageError, RecordingError
        If there is none, if it is damaged, or if its recording is gone.
    """
    from gradscope.experiments.training.checkpoint import load_checkpoint
    from gradscope.store.format.segments import part_folder

    if arguments.out is not None or arguments.overwrite:
        raise UsageError("--resume goes on with its own recording; leave out --out and --overwrite")
    checkpoint = load_checkpoint(as_recording(arguments.resume))
    path = _choose_path(arguments, checkpoint.config)
    if not path.exists() and not part_folder(path).exists():
        raise UsageError(f"the recording {path} that --resume would go on with is not there")
    return checkpoint


def _choose_path(arguments: argparse.Namespace, config: Config) -> Path:
    if arguments.resume is not None:
        return Path(arguments.resume.removesuffix(".checkpoint"))
    return as_path(arguments.out) if arguments.out is not None else default_path(config)


def _checkpoint_every(arguments: argparse.Namespace) -> int | None:
    text = arguments.checkpoint_every
    every = None if text is None else read(text, "int")
    if every is not None and (not isinstance(every, int) or every < 1):
        raise UsageError(f"--checkpoint-every must be a whole number of at least 1; got {text!r}")
    return every


def read_config(arguments: argparse.Namespace, base: Config | None = None) -> Config:
    """Put flags over the file over ``base``, by default the defaults.

    Raises
    ------
    UsageError
        If a key or a value cannot be used.
    """
    config = base or Config()
    if arguments.config is not None:
        source = as_path(arguments.config, "a .toml file or a recording")
        if not source.name or source.is_dir():
            raise UsageError(f"--config {source} is a folder; name a .toml file or a recording")
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
    from gradscope.store.read.recording import open_recording

    text = open_recording(path).attrs.get("config_json", "")
    if not text:
        raise UsageError(f"{path} holds no configuration; the built-in experiment did not make it")
    config: dict[str, Any] = json.loads(text)
    return config


def default_path(config: Config) -> Path:
    """Return ``runs/<dataset>-<model>-a<alpha>-s<seed>-<UTC>.h5``."""
    import datetime

    now = datetime.datetime.now(datetime.UTC)
    name = f"{config.dataset}-{config.model}-a{config.alpha:g}-s{config.seed}"
    return Path("runs") / f"{name}-{now:%Y%m%dT%H%M%SZ}.h5"


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
    }
    if outcome.step:
        rows["next"] = f"gradscope {_next_command(path)} {shlex.quote(str(path))}"
    return "\n".join(f"{name:<19}{value}" for name, value in rows.items())


def _next_command(path: Path) -> str:
    return "record --resume" if path.with_name(f"{path.name}.checkpoint").exists() else "plot"


def explain_divergence(outcome: Outcome) -> str:
    """Say where the loss was lost, in one line."""
    words = f"the loss was not finite at step {outcome.step}; the recording is kept. "
    if outcome.first_nonfinite is None:
        return words + "No recorded gradient before it was non-finite; try a smaller --lr"
    step, layer = outcome.first_nonfinite
    return words + f"The first non-finite gradient came at step {step} in layer {layer}"
