"""A folder of runs: a sweep, a hostile name, a broken file, links that lead outside."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from gradscope.store.write.writer import RecordingWriter
from tests.helpers import root_attributes, synthetic_columns, write_recording

HOSTILE = '<img src=x onerror=alert(1)>"&'


def write_sweep(folder, n_runs=4):
    for i in range(n_runs):
        alpha = (0, 0.5)[i % 2]
        write_recording(
            folder / f"run{i}.h5", 60, 5, seed=i, config_json=f'{{"alpha": {alpha}, "lr": 0.1}}'
        )


class Training(threading.Thread):
    """Writes ten rows a tenth of a second until it is told to stop."""

    def __init__(self, path, last=400):
        super().__init__(daemon=True)
        self.columns, params, layers = synthetic_columns(last, 5, seed=7)
        attrs = root_attributes(last) | {"seed": 7}
        attrs.pop("status")
        self.writer = RecordingWriter(path, attrs=attrs, flush_seconds=0.2)
        self.writer.set_axis("param", params)
        self.writer.set_axis("layer", layers)
        self.last, self.ended, self.at = last, threading.Event(), 0
        self.step(10)

    def step(self, n):
        for group, rows in self.columns.items():
            steps = np.asarray(rows["step"])
            chosen = (steps > self.at) & (steps <= self.at + n)
            if chosen.any():
                own = {name: np.asarray(values)[chosen] for name, values in rows.items()}
                self.writer.append(group, own)
        self.at += n

    def run(self):
        while self.at < self.last and not self.ended.wait(0.1):
            self.step(10)

    def end(self, status="finished"):
        self.ended.set()
        if self.is_alive():
            self.join(10)
        self.writer.close(status=status)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    root = tmp_path_factory.mktemp("runs")
    folder = root / "inside"
    (folder / "sweep").mkdir(parents=True)
    write_sweep(folder / "sweep")
    write_recording(folder / f"{HOSTILE}.h5", 20, 3)
    (folder / "broken.h5").write_bytes(b"no HDF5")
    write_recording(root / "secret.h5", 20, 3)
    (folder / "link.h5").symlink_to(root / "secret.h5")
    (folder / "folder").symlink_to(root)
    return folder
