"""Every notebook of the documentation runs from top to bottom."""

from __future__ import annotations

import os
from pathlib import Path

import nbformat
import pytest
from jupyter_client.manager import start_new_kernel
from nbclient import NotebookClient

NOTEBOOKS = sorted((Path(__file__).parents[2] / "docs" / "notebooks").glob("*.ipynb"))


@pytest.fixture(scope="module")
def kernel(tmp_path_factory):
    """One kernel for all notebooks: most of its time goes into importing torch."""
    folder = tmp_path_factory.mktemp("notebooks")
    environment = {
        **os.environ,
        "IPYTHONDIR": str(folder / "ipython"),
        "JUPYTER_PLATFORM_DIRS": "1",
        "PYTHONPATH": str(Path(__file__).parents[2]),
    }
    manager, client = start_new_kernel(kernel_name="python3", cwd=folder, env=environment)
    client.stop_channels()
    yield manager
    manager.shutdown_kernel(now=True)


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_notebook_runs(path, kernel):
    notebook = nbformat.read(path, as_version=4)
    notebook.cells.insert(0, nbformat.v4.new_code_cell("%reset -f"))
    client = NotebookClient(notebook, km=kernel, timeout=300)
    client.execute()
    client.kc.stop_channels()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    pictures = [output for output in outputs if "image/png" in output.get("data", {})]
    assert len(pictures) >= 2
    assert not [output for output in outputs if output.output_type == "error"]


def test_heatmap_takes_eight_lines():
    first_look = next(path for path in NOTEBOOKS if path.stem == "first_look")
    notebook = nbformat.read(first_look, as_version=4)
    cells = [cell.source for cell in notebook.cells if "Recorder(" in cell.source]
    lines = [line for line in cells[0].splitlines() if line.strip()]
    assert len(lines) == 8 and lines[-1] == "recorder.plot()"
