"""The page in a real browser: what the pointer says, what the pickers do, and no complaint."""

from __future__ import annotations

import os
import shutil

import numpy as np
import pytest

from gradscope.report.page import write_report
from gradscope.store.read.recording import open_recording
from tests.helpers import write_recording
from tests.report.test_page import HOSTILE, write_hostile

pytest.importorskip("selenium")
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.actions.action_builder import ActionBuilder
from selenium.webdriver.support.ui import Select, WebDriverWait

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), ""
)
DRIVER = shutil.which("chromedriver")
N_STEPS, N_LAYERS = 30, 5


@pytest.fixture(scope="module")
def browser():
    """A browser without a window and without a network."""
    if not (CHROMIUM and DRIVER):
        assert os.environ.get("CI") != "true", "CI needs Chromium and its driver"
        pytest.skip("needs Chromium and chromedriver (Debian: chromium, chromium-driver)")
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    for flag in (
        "--headless=new",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--window-size=1400,900",
        "--host-resolver-rules=MAP * ~NOTFOUND",
    ):
        options.add_argument(flag)
    if os.geteuid() == 0:
        options.add_argument("--no-sandbox")
    driver = webdriver.Chrome(options=options, service=Service(DRIVER))
    yield driver
    driver.quit()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("pages")


@pytest.fixture(scope="module")
def recording(folder):
    return write_recording(folder / "first.h5", N_STEPS, N_LAYERS)


@pytest.fixture(scope="module")
def page(recording, folder):
    return write_report(recording, folder / "one.html")


@pytest.fixture
def opened(browser, page):
    """The page of one run, drawn; afterwards the browser must not have complained."""
    show(browser, page)
    yield browser
    assert complaints(browser) == []


def show(browser, page):
    browser.get(page.as_uri())
    WebDriverWait(browser, 60).until(lambda b: ready(b) or problem(b))
    assert problem(browser) == ""


def ready(browser):
    return browser.execute_script("return document.body.dataset.ready") == "yes"


def problem(browser):
    return browser.execute_script("return document.getElementById('problem').textContent")


def complaints(browser):
    return [entry["message"] for entry in browser.get_log("browser")]


def box(browser, panel):
    """Where a panel stands in the window: left, top, width, height."""
    return browser.execute_script(
        "const plot = document.getElementById('plot'); plot.scrollIntoView();"
        f"const r = plot.querySelector('.nsewdrag[data-subplot={panel}]').getBoundingClientRect();"
        "return [r.left, r.top, r.width, r.height]"
    )


def point_at(browser, panel, x, y):
    """Move the pointer to a place in a panel, in shares of its width and height from below."""
    left, top, width, height = box(browser, panel)
    actions = ActionBuilder(browser)
    where = (round(left + x * width), round(top + (1 - y) * height))
    actions.pointer_action.move_to_location(where[0] + 3, where[1]).pause(0.1).move_to_location(
        *where
    )
    actions.perform()


def cell(row, column):
    return (column + 0.5) / N_STEPS, (row + 0.5) / N_LAYERS


def hover_lines(browser):
    """Read the lines beside the pointer."""
    script = (
        "return Array.from(document.querySelectorAll('.hoverlayer .hovertext tspan.line'),"
        "(line) => line.textContent)"
    )
    return WebDriverWait(browser, 10).until(lambda b: b.execute_script(script))


def drag(browser, panel, start, stop):
    left, top, width, height = box(browser, panel)
    places = [(round(left + x * width), round(top + (1 - y) * height)) for x, y in (start, stop)]
    actions = ActionBuilder(browser)
    actions.pointer_action.move_to_location(*places[0]).pointer_down()
    actions.pointer_action.move_to_location(*places[1]).pause(0.1).pointer_up()
    actions.perform()


def drawn(browser):
    """Everything that one can see of the picture."""
    return browser.execute_script(
        "const plot = document.getElementById('plot');"
        "const all = (css, f) => Array.from(plot.querySelectorAll(css), f);"
        "return {maps: all('.heatmaplayer image', (i) => i.href.baseVal),"
        "steps: all('.xtick text', (t) => t.textContent),"
        "rows: all('.y2tick text', (t) => t.textContent),"
        "loss: all('.xy .scatterlayer path.js-line', (p) => p.getAttribute('d')).join(),"
        "line: all('.xy3 .scatterlayer path.js-line', (p) => p.getAttribute('d')).join(),"
        "bar: all('.cbaxis text', (t) => t.textContent).join(),"
        "titles: all('.annotation-text', (t) => t.textContent)}"
    )


def wait_for_change(browser, before, key):
    return WebDriverWait(browser, 10).until(lambda b: (now := drawn(b))[key] != before[key] and now)


def pick(browser, id, value):
    Select(browser.find_element("id", id)).select_by_value(value)


def weights(recording, name):
    tree = open_recording(recording)
    group = next(node for node in tree.children.values() if name in node.data_vars)
    data = group.dataset[name]
    data = data.isel(param=(data["kind"] == "weight").values).load()
    tree.close()
    return data


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


def test_missing_and_zero_are_told_apart(browser, folder, monkeypatch):
    path = folder / "gaps.h5"

    def with_gaps(variable, shape, rng, steps, depth):
        values = original(variable, shape, rng, steps, depth)
        if variable.name == "grad_norm":
            values[5, 0], values[6, 0] = np.nan, 0.0
        return values

    from tests import helpers

    original = helpers._values
    monkeypatch.setattr(helpers, "_values", with_gaps)
    show(browser, write_report(write_recording(path, N_STEPS, N_LAYERS), folder / "gaps.html"))
    for column, words in ((5, "missing"), (6, "0 (exactly)")):
        point_at(browser, "xy2", *cell(0, column))
        assert hover_lines(browser)[1:] == [f"step {column + 1}", words]
    shown = [
        browser.find_element("id", f"key-{kind}").is_displayed()
        for kind in ("missing", "zero", "infinite")
    ]
    assert shown == [True, True, False]
    assert complaints(browser) == []


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


def test_a_run_without_a_step_has_no_picture_and_no_complaint(browser, folder):
    from gradscope.store.write.writer import RecordingWriter

    RecordingWriter(folder / "empty.h5", attrs={}).close(status="interrupted")
    show(browser, write_report(folder / "empty.h5", folder / "empty.html"))
    assert not browser.find_element("id", "plot").is_displayed()
    assert complaints(browser) == []
