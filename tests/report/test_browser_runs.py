"""The page of several runs, of hostile names and of an empty run in a real browser."""

from __future__ import annotations

from gradscope.report.page import write_report
from tests.helpers import write_recording
from tests.report.browser import (
    complaints,
    drawn,
    hover_lines,
    pick,
    point_at,
    show,
    wait_for_change,
)
from tests.report.test_page import HOSTILE, write_hostile


def test_runs_are_picked_and_compared(browser, recording, folder):
    other = write_recording(folder / "second.h5", 20, 9, seed=3)
    show(browser, write_report([recording, other], folder / "two.html"))
    before = drawn(browser)
    pick(browser, "run", "1")
    after = wait_for_change(browser, before, "rows")
    assert len(after["rows"]) == 9 and after["maps"] != before["maps"]
    parts = browser.find_elements("css selector", "#configuration [data-run]")
    assert [part.is_displayed() for part in parts] == [False, True]
    lines = browser.find_elements("css selector", "#losses .scatterlayer path.js-line")
    assert len(lines) == 2
    assert complaints(browser) == []


def test_a_diverged_run_need_not_take_the_colours_of_a_healthy_one(browser, folder, monkeypatch):
    from tests import helpers

    calm = write_recording(folder / "calm.h5", 20, 5)
    original = helpers._values
    monkeypatch.setattr(helpers, "_values", lambda *given: 1e12 * original(*given))
    wild = write_recording(folder / "wild.h5", 20, 5)
    show(browser, write_report([calm, wild], folder / "wild.html"))
    common = drawn(browser)
    pick(browser, "colours", "own")
    own = wait_for_change(browser, common, "maps")
    assert own["bar"] != common["bar"] and own["line"] == common["line"]
    pick(browser, "colours", "all")
    assert wait_for_change(browser, own, "maps")["bar"] == common["bar"]
    assert complaints(browser) == []


def test_hostile_names_are_shown_and_never_run(browser, folder):
    page = write_report(write_hostile(folder / "hostile.h5", config="{}"), folder / "hostile.html")
    show(browser, page)
    point_at(browser, "xy2", 0.5, 0.5)
    assert HOSTILE in hover_lines(browser)[0]
    assert browser.execute_script("return window.hacked") is None
    assert complaints(browser) == []


def test_a_run_without_a_step_has_no_picture_and_no_complaint(browser, folder):
    from gradscope.store.write.writer import RecordingWriter

    RecordingWriter(folder / "empty.h5", attrs={}).close(status="interrupted")
    show(browser, write_report(folder / "empty.h5", folder / "empty.html"))
    assert not browser.find_element("id", "plot").is_displayed()
    assert complaints(browser) == []
