"""A recording of an older major version opens in today's terms, and is not rewritten."""

from dataclasses import replace

import pytest

from gradscope import schema
from gradscope.errors import RecordingError
from gradscope.store.format import migrate
from gradscope.store.read.recording import open_recording
from gradscope.store.write.merge import merge_files
from tests.helpers import write_recording


def rename_loss(contents):
    training = contents.groups["training"]
    variables = {("cost" if k == "loss" else k): v for k, v in training.variables.items()}
    return replace(
        contents, groups=contents.groups | {"training": replace(training, variables=variables)}
    )


def test_an_older_file_opens_and_merges_in_todays_terms(tmp_path, monkeypatch):
    path = write_recording(tmp_path / "old.h5", 5, 2)
    loss = open_recording(path)["training"]["loss"].values
    before = path.read_bytes()
    monkeypatch.setattr(schema, "SCHEMA_VERSION", "3.0")
    monkeypatch.setitem(migrate.MIGRATIONS, 2, rename_loss)
    tree = open_recording(path)
    assert tree.attrs["schema_version"] == "3.0"
    assert "loss" not in tree["training"].data_vars
    assert tree["training"]["cost"].values.tolist() == loss.tolist()
    merge_files([path], tmp_path / "new.h5")
    assert open_recording(tmp_path / "new.h5")["training"]["cost"].values.tolist() == loss.tolist()
    assert path.read_bytes() == before


def test_where_no_way_leads_it_says_so(tmp_path, monkeypatch):
    path = write_recording(tmp_path / "old.h5", 3, 2)
    monkeypatch.setattr(schema, "SCHEMA_VERSION", "4.0")
    with pytest.raises(
        RecordingError, match=r"version 2\.0, which this gradscope \(4\.0\) no long"
    ):
        open_recording(path)
