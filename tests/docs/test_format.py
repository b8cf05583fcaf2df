"""The page on the format: its example runs, and its tables agree with what is written."""

import re
from pathlib import Path

import h5py
import numpy as np

from gradscope import schema
from tests.helpers import write_recording

PAGE = (Path(__file__).parents[2] / "docs" / "format.md").read_text(encoding="utf-8")


def test_the_example_reads_a_recording_without_gradscope(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_recording(Path("run.h5"), 5, 2)
    found = {}
    exec(re.search(r"```python\n(.*?)```", PAGE, re.S)[1], found)
    assert found["steps"].tolist() == [1, 2, 3, 4, 5]
    assert found["norm"].shape == (5,)


def test_dtypes_scales_and_attributes_are_as_the_page_says(tmp_path):
    with h5py.File(write_recording(tmp_path / "run.h5", 5, 2)) as file:
        for group in file.values():
            for name in group.attrs.get("coordinates", b"").decode().split():
                assert name in group
            for name, dataset in group.items():
                assert dataset.dtype.kind in "iufS", name
                if dataset.dtype.kind == "S":
                    assert dataset.attrs["_Encoding"] in ("utf-8", b"utf-8")
                if name in schema.INDEXES and dataset.is_scale:
                    continue
                assert all(len(dimension) == 1 for dimension in dataset.dims), name
        assert file["training/is_skipped"].dtype == np.int8
        assert file["training/is_skipped"].attrs["flag_values"].tolist() == [0, 1]
        assert file["gradients/grad_nonfinite"].attrs["_FillValue"] == -1


def test_every_group_and_dimension_is_named():
    for name in (*schema.GROUPS, *schema.INDEXES):
        assert name in PAGE
