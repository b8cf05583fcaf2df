"""The recordings in ``data/`` are sound and say nothing of where they were made."""

import re
from pathlib import Path

import pytest

from gradscope.store.maintain.validate import violations

DATA = Path(__file__).parents[3] / "data"
RECORDINGS = sorted(DATA.rglob("*.h5"))
# A path from the root of a file system or a drive, or a home folder.
PRIVATE = re.compile(
    rb"/(home|root|Users|work|tmp|mnt|scratch)/|[A-Z]:\\\\[A-Za-z]{3}|localhost|@[a-z]{2,}\.[a-z]{2,}"
)


@pytest.mark.parametrize("path", RECORDINGS, ids=lambda p: p.name)
def test_recording_is_sound(path):
    assert violations(path) == []


def test_no_file_names_a_path_host_or_user():
    for path in DATA.rglob("*"):
        if path.suffix in {".h5", ".json", ".csv", ".md", ".nc"}:
            found = PRIVATE.search(path.read_bytes())
            assert found is None, (path, found)
