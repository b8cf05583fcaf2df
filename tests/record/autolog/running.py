"""Run scripts under ``gradscope record``, in this process or in one of their own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]
SCRIPTS = Path(__file__).parent / "scripts"


def losses_printed(out):
    return [float(word) for word in re.findall(r"^loss (\S+)", out, re.M)]


def in_a_process(folder, *words, text=""):
    program = "import sys\nfrom gradscope.cli import main\nmain.COMMANDS = {'record': 'train'}\n"
    program += "sys.exit(main.main(sys.argv[1:]))"
    return subprocess.run(
        [sys.executable, "-c", program, "record", *words],
        cwd=folder,
        input=text,
        text=True,
        capture_output=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        timeout=120,
    )


def alone(folder, *words, text=""):
    return subprocess.run(
        [sys.executable, *words],
        cwd=folder,
        input=text,
        text=True,
        capture_output=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        timeout=120,
    )
