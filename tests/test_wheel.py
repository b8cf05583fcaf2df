"""The built wheel, installed into an empty environment, is the whole command line."""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    out = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out)]
    subprocess.run([*command, str(ROOT)], check=True, capture_output=True)
    (built,) = out.glob("*.whl")
    return built


def test_wheel_holds_gradscope_and_nothing_else(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0].split("-")[0] for name in names} == {"gradscope"}
    packed = {name for name in names if name.startswith("gradscope/")}
    source = {
        str(p.relative_to(ROOT))
        for p in (ROOT / "gradscope").rglob("*")
        if p.is_file() and "__pycache__" not in p.parts
    }
    assert packed == source


@pytest.mark.slow
def test_command_line_runs_from_the_installed_wheel(wheel, tmp_path):
    venv.create(tmp_path / "env", with_pip=True)
    python = tmp_path / "env" / "bin" / "python"
    install = [python, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", wheel]
    subprocess.run(install, check=True)
    # The dependencies are those of this environment; gradscope itself must come from the wheel.
    site = subprocess.check_output(
        [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], text=True
    ).strip()
    Path(site, "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    where = subprocess.check_output(
        [python, "-c", "import gradscope; print(gradscope.__file__)"], text=True, cwd=tmp_path
    )
    assert str(tmp_path) in where
    command = tmp_path / "env" / "bin" / "gradscope"
    shutil.copy(ROOT / "data" / "diagnosis" / "healthy.h5", tmp_path)
    info = subprocess.check_output([command, "info", "healthy.h5"], text=True, cwd=tmp_path)
    assert "finished" in info and "vgg13" in info
    subprocess.run([command, "plot", "healthy.h5"], check=True, cwd=tmp_path, capture_output=True)
    assert list(tmp_path.glob("*.png"))
