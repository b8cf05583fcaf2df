"""SMES and its shadow under DDP and FSDP2: two processes give what one gives."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]


def test_two_processes_equal_one(tmp_path):
    result = subprocess.run(
        [sys.executable, "-W", "ignore", "tests/optim/kernels/distributed_steps.py", str(tmp_path)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=300,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
    )
    assert result.stdout.endswith("equal\n"), result.stderr[-3000:]
