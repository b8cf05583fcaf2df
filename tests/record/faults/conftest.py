"""The fixture that lets a chosen call fail."""

from __future__ import annotations

import pytest

from tests.record.faults import injecting


@pytest.fixture(scope="module")
def calls():
    """Wrap every function of the recorder and the writer."""
    yield from injecting.counted_calls()
