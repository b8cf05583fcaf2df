"""The page of one run in a real browser: pointer, pickers, zoom."""

from __future__ import annotations

import numpy as np
import pytest

from gradscope.report.page import write_report
from tests.helpers import write_recording
from tests.report.browser import (
    N_LAYERS,
    N_STEPS,
    box,
    cell,
    complaints,
    drag,
    drawn,
    hover_lines,
    pick,
    point_at,
    show,
    wait_for_change,
    weights,
)

pytest.importorskip("selenium")
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.support.ui import Select


def test_the_pointer_says_layer_step_and_value(opened, recording):
    data = weights(recording, "grad_norm")
    for row, column in ((0, 4), (3, 20), (4, 29)):
        point_at(opened, "xy2", *cell(row, column))
        name, step, value = hover_lines(opened)
        assert name == data["param"].values[row] and step == f"step {column + 1}"
        assert value == str(float(f"{float(data[column, row]):.3g}"))


def test_rows_are_named_in_network_order_and_the_input_is_below(opened):
    assert drawn(opened)["rows"] == [
        "features.0",
        "features.3",
        "features.6",
        "features.9",
        "classifier",
    ]


def test_picking_a_quantity_changes_the_picture(opened, recording):
    before = drawn(opened)
    assert before["titles"][:2] == ["training loss of the step", "gradient norm"]
    pick(opened, "quantity", "effective_lr")
    after = wait_for_change(opened, before, "titles")
    assert after["titles"][1] == "effective learning rate" and after["maps"] != before["maps"]
    assert after["loss"] == before["loss"]
    point_at(opened, "xy2", *cell(2, 10))
    expected = float(weights(recording, "effective_lr")[10, 2])
    assert float(hover_lines(opened)[2]) == float(f"{expected:.3g}")


def test_zooming_the_map_zooms_the_loss(opened):
    before = drawn(opened)
    drag(opened, "xy2", (0.5, 0.1), (0.9, 0.9))
    after = wait_for_change(opened, before, "steps")
    assert after["loss"] != before["loss"] and after["line"] != before["line"]
    steps = [int(text) for text in after["steps"]]
    assert min(steps) >= 15 and max(steps) <= 28
    opened.find_element("id", "reset").click()
    assert wait_for_change(opened, after, "steps")["steps"] == before["steps"]


def test_zooming_the_loss_zooms_the_map(opened):
    before = drawn(opened)
    drag(opened, "xy", (0.1, 0.1), (0.4, 0.9))
    after = wait_for_change(opened, before, "steps")
    assert max(int(text) for text in after["steps"]) <= 14
    assert after["rows"] == before["rows"]


def test_a_layer_is_picked_from_the_list_or_by_a_click(opened, recording):
    names = weights(recording, "grad_norm")["param"].values.tolist()
    before = drawn(opened)
    assert before["titles"][2].endswith(names[0])
    pick(opened, "layer", "3")
    after = wait_for_change(opened, before, "line")
    assert after["titles"][2].endswith(names[3])
    point_at(opened, "xy2", *cell(4, 8))
    ActionChains(opened).click().perform()
    assert wait_for_change(opened, after, "line")["titles"][2].endswith(names[4])
    assert Select(opened.find_element("id", "layer")).first_selected_option.text == names[4]


def test_the_step_axis_can_be_logarithmic(opened):
    before = drawn(opened)
    pick(opened, "axis", "log")
    assert {"1", "10"} <= set(wait_for_change(opened, before, "steps")["steps"])


def test_nothing_is_loaded_from_elsewhere(opened):
    loaded = opened.execute_script(
        "return performance.getEntriesByType('resource').map((r) => r.name)"
    )
    assert [name for name in loaded if not name.startswith(("data:", "blob:"))] == []


def test_missing_zero_and_non_finite_are_told_apart(browser, folder, monkeypatch):
    path = folder / "gaps.h5"

    def with_gaps(variable, shape, rng, steps, depth):
        values = original(variable, shape, rng, steps, depth)
        if variable.name == "grad_norm":
            values[5, 0], values[6, 0], values[7, 0] = np.nan, 0.0, np.nan
        if variable.name == "grad_nonfinite":
            values[:], values[7, 0] = 0, 3
        return values

    from tests import helpers

    original = helpers._values
    monkeypatch.setattr(helpers, "_values", with_gaps)
    show(browser, write_report(write_recording(path, N_STEPS, N_LAYERS), folder / "gaps.html"))
    for column, words in ((5, "missing"), (6, "0 (exactly)"), (7, "non-finite")):
        point_at(browser, "xy2", *cell(0, column))
        assert hover_lines(browser)[1:] == [f"step {column + 1}", words]
    shown = [
        browser.find_element("id", f"key-{kind}").is_displayed()
        for kind in ("missing", "zero", "nonfinite")
    ]
    assert shown == [True, True, True]
    assert complaints(browser) == []


def test_a_narrow_window_has_room_for_all(browser, page):
    size = {"width": 420, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    try:
        show(browser, page)
        assert browser.execute_script("return document.documentElement.scrollWidth") <= 420
        left, _, width, _ = box(browser, "xy2")
        assert width > 180 and left + width < 420
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    assert complaints(browser) == []
