"""Every example of the quick start and the how-to pages runs, page by page, from top to bottom."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import matplotlib as mpl
import pytest

from gradscope.cli import main as cli

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "docs" / "quickstart.md", *sorted((ROOT / "docs" / "howto").glob("*.md"))]
BLOCK = re.compile(r"^```(python|sh)(?: file=(\S+))?\n(.*?)^```", re.M | re.S)
NEEDS = {
    "frameworks": ("lightning", "transformers", "accelerate"),
    "elsewhere": ("tensorboard", "wandb"),
}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::Warning")
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_examples_run(page, tmp_path, monkeypatch):
    for name in NEEDS.get(page.stem, ()):
        pytest.importorskip(name, reason=f"{name} is not installed")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_SILENT", "true")
    mpl.use("agg")
    blocks = BLOCK.findall(page.read_text(encoding="utf-8"))
    for _, file, text in blocks:
        if file:
            Path(file).write_text(text, encoding="utf-8")
    names: dict[str, object] = {"__name__": "example"}
    for language, file, text in blocks:
        if language == "sh":
            for line in text.splitlines():
                run_line(shlex.split(line))
        elif not file:
            exec(compile(text, str(page), "exec"), names)
    for picture in tmp_path.glob("*.png"):
        assert picture.stat().st_size > 1000


def run_line(words):
    if words[0] == "gradscope":
        assert cli.main(words[1:]) == 0
        return
    assert words[0] == "torchrun"
    program = [sys.executable, "-m", "torch.distributed.run", "--standalone", *words[1:]]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(program, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("gradscope record:") == 1
    assert "5 steps of Linear, SGD" in done.stderr


def test_heatmap_of_an_own_model_takes_eight_lines():
    text = (ROOT / "docs" / "quickstart.md").read_text(encoding="utf-8")
    first = next(body for language, _, body in BLOCK.findall(text) if language == "python")
    assert len([line for line in first.splitlines() if line.strip()]) == 8
