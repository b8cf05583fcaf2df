"""Recordings of older schemas, seen as ones of today's. No file is rewritten for it.

A major version of the schema that changes what a name means comes with a function here, from what
a file of the version before holds to what it means now. A renamed variable is the old declaration
under its new key: the key is the name of today, ``Variable.name`` the one in the file.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from gradscope import schema
from gradscope.errors import RecordingError
from gradscope.store.format.contents import FileContents


def _to_version_2(contents: FileContents) -> FileContents:
    """Name the recorded groups as today; `schema.FORMER_NAMES` renames the groups themselves."""
    today = {former: name for name, former in schema.FORMER_NAMES.items()}
    words = str(contents.attrs.get("recorded_groups", "")).split()
    if not words:
        return contents
    renamed = " ".join(today.get(word, word) for word in words)
    return replace(contents, attrs=contents.attrs | {"recorded_groups": renamed})


MIGRATIONS: dict[int, Callable[[FileContents], FileContents]] = {1: _to_version_2}
"""From each major version to the next."""


def migrate(contents: FileContents) -> FileContents:
    """Return the contents of a file in today's terms.

    Raises
    ------
    RecordingError
        If no way leads from its version to today's.
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
