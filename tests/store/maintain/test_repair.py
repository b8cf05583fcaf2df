"""Repair rewrites a recording of schema version 1; its numbers stay as they are."""

from __future__ import annotations

import h5py
import numpy as np
import pytest

from gradscope.errors import RecordingExistsError
from gradscope.store.maintain.repair import repair
from gradscope.store.maintain.validate import violations
from tests.helpers import write_recording


@pytest.fixture
def old(tmp_path):
    """Write a finished recording as version 1 had it: /signals, which root attributes name too."""
    path = write_recording(tmp_path / "old.h5", 6, 2)
    with h5py.File(path, "r+") as file:
        file.move("activations", "signals")
        file.attrs["schema_version"] = np.bytes_("1.0")
        file.attrs["recorded_groups"] = np.bytes_("gradients signals")
    return path


def test_a_version_1_recording_is_rewritten_in_todays_schema(old, tmp_path):
    before = old.read_bytes()
    done = repair(old, tmp_path / "new.h5")
    assert done.n_segments == 0 and done.left_out == ()
    assert violations(done.target) == [] and old.read_bytes() == before
    with h5py.File(old) as file, h5py.File(done.target) as new:
        assert new.attrs["schema_version"].decode() == "2.0"
        assert new.attrs["recorded_groups"].decode() == "gradients activations"
        for name in ("status", "is_complete", "created_at"):
            assert new.attrs[name] == file.attrs[name]
        assert set(new) == {("activations" if name == "signals" else name) for name in file}
        for name, group in new.items():
            former = file["signals" if name == "activations" else name]
            assert set(group) == set(former)
            for key, dataset in group.items():
                assert dataset.dtype == former[key].dtype
                assert dataset[()].tobytes() == former[key][()].tobytes(), key


def test_nothing_is_overwritten(old):
    with pytest.raises(RecordingExistsError, match="choose another name"):
        repair(old)
