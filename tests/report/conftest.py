"""A browser and the page of one run, shared by the tests of the page."""

from __future__ import annotations

import pytest

from gradscope.report.page import write_report
from tests.helpers import write_recording


@pytest.fixture(scope="module")
def browser():
    """A browser without a window and without a network."""
    from tests.report.browser import start_browser

    driver = start_browser()
    yield driver
    driver.quit()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("pages")


@pytest.fixture(scope="module")
def recording(folder):
    from tests.report.browser import N_LAYERS, N_STEPS

    return write_recording(folder / "first.h5", N_STEPS, N_LAYERS)


@pytest.fixture(scope="module")
def page(recording, folder):
    return write_report(recording, folder / "one.html")


@pytest.fixture
def opened(browser, page):
    """The page of one run, drawn; afterwards the browser must not have complained."""
    from tests.report.browser import complaints, show

    show(browser, page)
    yield browser
    assert complaints(browser) == []
