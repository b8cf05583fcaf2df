"""Damaged and foreign files: one line, exit code 2, no crash, no hang, no full memory.

``GRADSCOPE_MUTANTS=2000`` runs the long form. The files are opened in a process of their own, with
a limit on time and memory, so that a crash of HDF5 fails the test and not the suite.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
import scipy.io
import xarray as xr

from gradscope.cli.main import main
from gradscope.errors import RecordingError
from gradscope.store.format import h5objects
from gradscope.store.format.contents import read_contents
from gradscope.store.format.layout import as_attribute
from gradscope.store.format.segments import part_folder
from gradscope.store.read.recording import open_recording
from gradscope.store.write.writer import RecordingWriter
from tests.helpers import write_recording

N_MUTANTS = int(os.environ.get("GRADSCOPE_MUTANTS", "100"))
ROOT = Path(__file__).parents[3]

PROGRAM = """
import contextlib, io, random, resource, sys
from pathlib import Path
from gradscope.cli.main import main
from gradscope.errors import GradscopeError
from gradscope.store.read.recording import open_recording

resource.setrlimit(resource.RLIMIT_AS, (6 << 30, 6 << 30))
source, target, n = Path(sys.argv[1]).read_bytes(), Path(sys.argv[2]), int(sys.argv[3])

def flip(data, rng):
    for _ in range(rng.choice([1, 3, 20])):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)

def overwrite(data, rng):
    at = rng.randrange(len(data))
    data[at : at + 32] = rng.randbytes(len(data[at : at + 32]))

def truncate(data, rng):
    del data[rng.randrange(len(data)) :]

def blank(data, rng):
    at = rng.randrange(len(data))
    data[at : at + 512] = bytes(len(data[at : at + 512]))

def copy(data, rng):
    at, to = rng.randrange(len(data)), rng.randrange(len(data))
    data[to : to + 512] = data[at : at + 512]

def insert(data, rng):
    at = rng.randrange(len(data))
    data[at:at] = rng.randbytes(64)

n_refused = 0
for seed in range(n):
    rng = random.Random(seed)
    data = bytearray(source)
    rng.choice([flip, flip, overwrite, truncate, blank, copy, insert])(data, rng)
    target.write_bytes(data)
    try:
        with contextlib.closing(open_recording(target)) as tree:
            tree.load()
    except GradscopeError as error:
        assert "\\n" not in str(error)
        n_refused += 1
    if seed % 10 == 0:
        plot = ["plot", str(target), "--out", str(target) + ".png"]
        command = plot if seed % 50 == 0 else ["info", str(target)]
        said = io.StringIO()
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
            code = main(command)
        assert code in (0, 2), (seed, code)
        assert code == 0 or said.getvalue().count("\\n") == 1, (seed, said.getvalue())
print(n_refused)
"""


@pytest.fixture(scope="module")
def recording(tmp_path_factory):
    return write_recording(tmp_path_factory.mktemp("hostile") / "run.h5", 60, 4)


@pytest.mark.skipif(sys.platform == "win32", reason="needs limits on memory")
@pytest.mark.skipif(
    h5py.version.hdf5_version_tuple < (2, 0, 0),
    reason="HDF5 before 2.0 crashes on some damaged files, whoever opens them",
)
def test_mutated_files_end_in_one_error(recording, tmp_path):
    arguments = [str(recording), str(tmp_path / "mutant.h5"), str(N_MUTANTS)]
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PROGRAM, *arguments],
        cwd=ROOT,
        timeout=60 + N_MUTANTS,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    # Nearly every byte lies under a checksum; a few fill gaps.
    assert int(done.stdout) > 0.8 * N_MUTANTS


def write_foreign(path, kind):
    numbers = xr.Dataset({"loss": ("step", np.arange(3.0))}, coords={"step": [1, 2, 3]})
    if kind == "text":
        path.write_text("step,loss\n1,2\n")
    elif kind == "empty":
        path.touch()
    elif kind == "matlab 5":
        scipy.io.savemat(path, {"x": np.arange(3)}, appendmat=False)
    elif kind == "matlab 7.3":
        with h5py.File(path, "w", userblock_size=512) as file:
            file["x"] = np.arange(3.0)[:, None]
            file["x"].attrs["MATLAB_class"] = np.bytes_("double")
            file.create_group("#refs#")
        with path.open("r+b") as file:
            file.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(124) + b"\x00\x02IM")
    elif kind == "netcdf 3":
        numbers.to_netcdf(path, engine="scipy")
    elif kind == "netcdf 4":
        xr.DataTree.from_dict({"/training": numbers}).to_netcdf(path, engine="h5netcdf")
    elif kind == "many names":
        with h5py.File(path, "w") as file:
            file.attrs["schema_version"] = as_attribute("1.0")
            for i in range(60):
                file[f"x{i}"] = h5py.SoftLink("/nowhere")
    else:
        with h5py.File(path, "w") as file:
            file["x"] = np.arange(3)


FOREIGN = [
    *("text", "empty", "matlab 5", "matlab 7.3", "netcdf 3", "netcdf 4", "plain h5py"),
    "many names",
]


@pytest.mark.parametrize("kind", FOREIGN)
def test_files_by_others_are_refused_in_one_line(tmp_path, capsys, monkeypatch, kind):
    monkeypatch.setattr(h5objects, "MAX_MEMBERS", 50)
    path = tmp_path / "run.h5"
    write_foreign(path, kind)
    before = path.read_bytes()
    with pytest.raises(RecordingError, match=r"not an HDF5 file|is empty|no(t a)? recording"):
        open_recording(path)
    out = str(tmp_path / "out")
    for command in (
        ["info", str(path)],
        ["plot", str(path), "--out", out + ".png"],
        ["tail", str(path), "--once"],
        ["repair", str(path), "-o", out],
        ["export", str(path), "--to", "csv", "-o", out],
    ):
        assert main(command) == 2, command
        said = capsys.readouterr()
        assert (said.out, said.err.count("\n")) == ("", 1), command
        assert str(path) in said.err, command
    assert main(["validate", str(path)]) == 1
    said = capsys.readouterr()
    assert said.err == ""
    assert f"{path}: 1 violation\n" in said.out
    assert sorted(p.name for p in tmp_path.iterdir()) == ["run.h5"]
    assert path.read_bytes() == before


def edit(source, target, change):
    shutil.copy(source, target)
    with h5py.File(target, "a") as file:
        change(file)
    return target


def huge(file):
    del file["gradients/grad_norm"]
    n_rows, n_params = len(file["gradients/step"]), len(file["gradients/param"])
    del file["gradients/step"]
    file["gradients"].create_dataset("step", (10**12,), "i8", chunks=(1000,))
    file["gradients"].create_dataset("grad_norm", (10**12, n_params), "f4", chunks=(1000, 1))
    assert n_rows


def pickled(file):
    del file["gradients/grad_norm"]
    file["gradients/grad_norm"] = np.void(b"cos\nsystem\n(S'touch hacked'\ntR.")


def as_object(file):
    del file["gradients/param"]
    file["gradients"].create_dataset("param", data=["a"], dtype=h5py.string_dtype())


def elsewhere(file):
    del file["gradients"]
    file["gradients"] = h5py.ExternalLink("/etc/passwd", "/")


def wrong_shape(file):
    del file["gradients/grad_norm"]
    file["gradients/grad_norm"] = np.ones((3, 3))


def newer(file):
    file.attrs["schema_version"] = as_attribute("3.0")


def backwards(file):
    file["gradients/step"][:] = file["gradients/step"][()][::-1]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (huge, "claims 8,000,000,000,000 bytes but stores 0"),
        (pickled, "not numbers"),
        (as_object, "neither numbers nor fixed text"),
        (wrong_shape, "has shape"),
        (newer, "has schema version 3.0, this gradscope reads up to 2.x; install a newer"),
        (backwards, "does not increase"),
    ],
)
def test_hostile_contents_are_refused(recording, tmp_path, change, words):
    path = edit(recording, tmp_path / "run.h5", change)
    with pytest.raises(RecordingError, match=words):
        open_recording(path)


def test_links_out_of_the_file_are_not_followed(recording, tmp_path):
    tree = open_recording(edit(recording, tmp_path / "run.h5", elsewhere))
    assert "gradients" not in tree.children


def segments_of(folder, seed=1, created_at="2026-01-01T00:00:00+00:00"):
    writer = RecordingWriter(folder / "run.h5", {"seed": seed, "created_at": created_at})
    for k in range(3):
        writer.append("training", {"step": [k + 1], "loss": [1.0]})
        writer.flush(wait=True)
    copy = folder / "copy"
    shutil.copytree(part_folder(writer.path), copy)
    writer.close()
    writer.path.unlink()
    copy.rename(part_folder(writer.path))
    return part_folder(writer.path)


def test_a_missing_segment_leaves_the_others_and_validate_says_so(tmp_path, capsys):
    part = segments_of(tmp_path)
    (part / "000002.h5").unlink()
    np.testing.assert_array_equal(open_recording(tmp_path / "run.h5")["training"]["step"], [1, 3])
    assert main(["validate", str(tmp_path / "run.h5")]) == 1
    assert "segments 2 to 2 are missing" in capsys.readouterr().out


def test_a_segment_of_another_run_is_refused(tmp_path):
    part = segments_of(tmp_path)
    (tmp_path / "other").mkdir()
    other = segments_of(tmp_path / "other", created_at="2026-02-02T00:00:00+00:00")
    shutil.copy(other / "000002.h5", part / "000002.h5")
    with pytest.raises(RecordingError, match=r"000002\.h5 belongs to another run"):
        open_recording(tmp_path / "run.h5")


def test_overlapping_and_damaged_segments(tmp_path, capsys):
    part = segments_of(tmp_path)
    (part / "000002.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100))
    with pytest.raises(RecordingError, match=r"000002\.h5 cannot be read: it is "):
        open_recording(tmp_path / "run.h5")
    assert main(["repair", str(tmp_path / "run.h5")]) == 0
    assert "left out" in capsys.readouterr().out
    assert len(read_contents(tmp_path / "run.h5").groups["training"].rows) == 2
    (tmp_path / "run.h5").unlink()
    shutil.copy(part / "000001.h5", part / "000001-000002.h5")
    shutil.copy(part / "000003.h5", part / "000002-000003.h5")
    with pytest.raises(RecordingError, match="overlap"):
        open_recording(tmp_path / "run.h5")
