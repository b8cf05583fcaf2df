"""What a command loads: start-up is mostly imports, so the heavy ones stay away."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.helpers import write_recording

HEAVY = {"torch", "scipy", "dask", "distributed", "numba", "seaborn", "plotly", "sklearn"}
PROGRAM = """
import contextlib, io, sys
from gradscope.cli.main import main
with contextlib.redirect_stdout(io.StringIO()):
    code = main()
print(*(name for name, module in sys.modules.items() if module is not None))
sys.exit(code)
"""


@pytest.fixture(scope="module")
def recording(tmp_path_factory):
    return write_recording(tmp_path_factory.mktemp("runs") / "run.h5", 12, 4)


@pytest.mark.parametrize(
    ("command", "light"),
    [
        (["info"], HEAVY | {"matplotlib"}),
        (["plot"], HEAVY),
        (["plot", "--kind", "profile"], HEAVY),
        (["plot", "--kind", "trajectories"], HEAVY),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_commands_load_only_what_they_need(command, light, recording):
    words = [*command, str(recording)]
    result = subprocess.run(
        [sys.executable, "-c", PROGRAM, *words], capture_output=True, text=True, check=True
    )
    loaded = {name.split(".")[0] for name in result.stdout.split()}
    assert not loaded & light
    assert {"h5py", "xarray"} <= loaded


def test_a_real_command_compares_without_dask(recording, tmp_path):
    """The command line keeps dask out, which several recordings do not need either."""
    other = write_recording(tmp_path / "other.h5", 12, 4, seed=1)
    words = ["compare", str(recording), str(other), "--out", str(tmp_path / "map.png")]
    result = subprocess.run([sys.executable, "-c", PROGRAM, *words], capture_output=True, text=True)
    assert (result.returncode, result.stderr) == (0, "")
    assert "dask" not in {name.split(".")[0] for name in result.stdout.split()}
