"""Hands and eyes on the page in a real browser."""

from __future__ import annotations

import os
import shutil

import pytest

from gradscope.store.read.recording import open_recording

pytest.importorskip("selenium")
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.actions.action_builder import ActionBuilder
from selenium.webdriver.support.ui import Select, WebDriverWait

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), ""
)
DRIVER = shutil.which("chromedriver")
N_STEPS, N_LAYERS = 30, 5


def start_browser():
    """Start a browser without a window and without a network."""
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
        "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
    ):
        options.add_argument(flag)
    if os.geteuid() == 0:
        options.add_argument("--no-sandbox")
    return webdriver.Chrome(options=options, service=Service(DRIVER))


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
