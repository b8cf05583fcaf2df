"""Migration of recordings with an older schema version when they are opened.

Each major version of the schema has a function here that converts the contents of a file of the
previous major version. Files are not changed. A renamed variable keeps its old declaration under a
new key: the key is the current name, and ``Variable.name`` is the name in the file.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from gradscope import schema
from gradscope.errors import RecordingError
from gradscope.store.format.contents import FileContents


def _to_version_2(contents: FileContents) -> FileContents:
    """Rename the recorded groups; `schema.FORMER_NAMES` renames the groups themselves."""
    today = {former: name for name, former in schema.FORMER_NAMES.items()}
    words = str(contents.attrs.get("recorded_groups", "")).split()
    if not words:
        return contents
    renamed = " ".join(today.get(word, word) for word in words)
    return replace(contents, attrs=contents.attrs | {"recorded_groups": renamed})


MIGRATIONS: dict[int, Callable[[FileContents], FileContents]] = {1: _to_version_2}
"""Migration from each major version to the next."""


def migrate(contents: FileContents) -> FileContents:
    """Return the contents of a file in the current schema version.

    Raises
    ------
    RecordingError
        If there is no migration from its version to the current one.
    """
    version = str(contents.attrs["schema_version"])
    today = int(schema.SCHEMA_VERSION.split(".")[0])
    major = int(version.split(".")[0])
    if major == today:
        return contents
    for step in range(major, today):
        if step not in MIGRATIONS:
            raise RecordingError(
                f"{contents.path} has schema version {version}, which this gradscope "
                f"({schema.SCHEMA_VERSION}) no longer reads; use an older gradscope"
            )
        contents = MIGRATIONS[step](contents)
    return replace(contents, attrs=contents.attrs | {"schema_version": schema.SCHEMA_VERSION})
