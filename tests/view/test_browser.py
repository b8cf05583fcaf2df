"""The live page in a real browser: growth, search, hover, links, dark, hostile names, many runs."""

from __future__ import annotations

import json
import subprocess
import sys
import time

import pytest

pytest.importorskip("selenium")
pytest.importorskip("uvicorn")
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

from gradscope.view.server import serve_in_background
from tests.report.browser import complaints, start_browser
from tests.view.conftest import HOSTILE, Training, write_sweep


@pytest.fixture(scope="module")
def browser():
    driver = start_browser()
    yield driver
    driver.quit()


@pytest.fixture(scope="module")
def served(runs):
    page = serve_in_background([runs])
    yield page.url
    page.close()


def until(browser, script, seconds=40):
    return WebDriverWait(browser, seconds, 0.1).until(
        lambda b: b.execute_script(f"return {script}")
    )


def texts(css):
    return f"[...document.querySelectorAll('{css}')].map((found) => found.textContent)"


def visit(browser, url, n_rows):
    browser.get("about:blank")
    complaints(browser)  # of the page before, whose server may have gone
    browser.get(url)
    until(browser, f"document.body.dataset.ready === 'yes' && rows.size >= {n_rows}")


def names(browser):
    return browser.execute_script("return " + texts("tbody tr[data-key] td:nth-child(2)"))


def keys_of(browser, *wanted):
    found = dict(browser.execute_script("return [...rows.values()].map((r) => [r.name, r.key])"))
    return ".".join(found[name] for name in wanted)


def test_search_by_regex_and_a_hostile_name_is_only_text(browser, served):
    visit(browser, served, 6)
    assert HOSTILE in names(browser)
    assert browser.execute_script("return document.querySelectorAll('img').length") == 0
    browser.find_element(By.TAG_NAME, "body").send_keys("/")
    browser.switch_to.active_element.send_keys("run[13]|alpha=0$")
    assert names(browser) == [f"sweep/run{i}" for i in range(4)]
    browser.switch_to.active_element.send_keys(Keys.BACKSPACE * 9)
    assert names(browser) == ["sweep/run1", "sweep/run3"]
    assert "search=run" in browser.current_url
    assert complaints(browser) == []


def test_a_run_is_opened_and_its_link_opens_it_again_in_the_dark(browser, served):
    visit(browser, served, 6)
    browser.find_element(By.XPATH, "//td[text()='sweep/run2']").click()
    until(browser, "document.querySelectorAll('#plot .heatmaplayer image').length === 1")
    browser.find_element(By.ID, "theme").click()
    link = browser.current_url
    visit(browser, link, 6)
    until(browser, "document.querySelectorAll('#plot .heatmaplayer image').length === 1")
    assert browser.execute_script("return document.documentElement.dataset.theme") == "dark"
    assert (
        browser.execute_script("return document.getElementById('plot').layout.paper_bgcolor")
        == "#17191c"
    )
    until(browser, "document.querySelectorAll('#facts tr').length > 3")
    area = browser.find_element(By.CSS_SELECTOR, "#plot .nsewdrag[data-subplot=xy2]")
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", area)
    ActionChains(browser).move_to_element(area).move_by_offset(3, 3).perform()
    text = until(
        browser,
        texts("#plot .hovertext tspan") + ".join(' ')",
    )
    assert "step" in text and "weight" in text
    assert complaints(browser) == []


def test_several_runs_share_a_legend_that_hides_everywhere(browser, served):
    visit(browser, served, 6)
    runs = keys_of(browser, "sweep/run0", "sweep/run1", "sweep/run2")
    visit(browser, f"{served}#runs={runs}", 6)
    until(browser, "document.querySelectorAll('#curves .js-line').length >= 3")
    until(browser, "document.querySelectorAll('#difference .heatmaplayer image').length === 1")
    browser.find_element(By.CSS_SELECTOR, "#legend button").click()
    until(browser, "document.getElementById('curves').data.filter((t) => t.name).length === 2")
    until(browser, "document.getElementById('first').options.length === 2")
    assert "hide=" in browser.current_url
    assert complaints(browser) == []


def test_no_request_leaves_the_machine_and_no_cloud_button(browser, served):
    loaded = browser.execute_script(
        "return performance.getEntriesByType('resource').map((r) => r.name)"
    )
    assert loaded and all(name.startswith((served, "data:", "blob:")) for name in loaded)
    titles = browser.execute_script(
        "return [...document.querySelectorAll('.modebar-btn')].map((b) => b.dataset.title)"
    )
    assert titles and not any("hare" in title or "loud" in title for title in titles)


def test_a_training_is_followed_as_it_grows(browser, tmp_path):
    page = serve_in_background([tmp_path])
    training = None
    try:
        visit(browser, page.url, 0)
        assert browser.find_element(By.ID, "begin").is_displayed()
        training = Training(tmp_path / "live.h5")
        training.start()
        until(browser, "rows.size === 1 && [...rows.values()][0].status === 'live'")
        browser.find_element(By.XPATH, "//td[text()='live' and @title='live']").click()
        drawn = "document.getElementById('plot').data?.find((t) => t.type === 'heatmap')?.x.at(-1)"
        first = until(browser, drawn)
        until(browser, f"{drawn} > {json.dumps(first)}")
        assert browser.execute_script("return " + texts("thead th.number"))[:2] == ["step", "loss"]
        training.end()
        until(browser, "document.getElementById('title').textContent.includes('finished')")
        assert complaints(browser) == []
    finally:
        if training is not None and training.is_alive():
            training.end("interrupted")
        page.close()


def test_new_and_killed_runs_show_within_two_seconds(browser, tmp_path):
    """Two seconds on a quiet machine; here three more, since tests share their cores."""
    page = serve_in_background([tmp_path])
    program = (
        "import sys, time, pathlib\n"
        "from tests.view.conftest import Training\n"
        "training = Training(pathlib.Path(sys.argv[1]), last=100_000)\n"
        "training.writer.flush(wait=True)\nprint(flush=True)\ntraining.run()\n"
    )
    try:
        visit(browser, page.url, 0)
        command = [sys.executable, "-c", program, str(tmp_path / "new.h5")]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            process.stdout.readline()
            until(browser, "[...rows.values()][0]?.status === 'live'", 2 + 3)
            until(browser, "document.querySelector('td.status')?.textContent === 'live'", 1)
            process.kill()
            process.wait()
        until(browser, "document.querySelector('td.status')?.textContent === 'killed'", 2 + 3)
        assert complaints(browser) == []
    finally:
        page.close()


def test_csv_png_and_keys(browser, served, tmp_path):
    """Download by the buttons, and go through runs by the keyboard."""
    downloads = {"behavior": "allow", "downloadPath": str(tmp_path)}
    browser.execute_cdp_cmd("Browser.setDownloadBehavior", downloads)
    visit(browser, served, 6)
    body = browser.find_element(By.TAG_NAME, "body")
    at = "rows.get(cursor).name"
    body.send_keys("jj")
    second = browser.execute_script(f"return {at}")
    body.send_keys("k")
    assert browser.execute_script(f"return {at}") != second
    browser.execute_script("cursor = ''; view.search = 'sweep'; drawTable()")
    body.send_keys("j" + Keys.ENTER)
    until(browser, "document.querySelectorAll('#plot .heatmaplayer image').length === 1")
    body.send_keys("l")
    assert "axis=log" in browser.current_url
    for button in ("csv", "png", "csv-runs"):
        browser.find_element(By.ID, button).click()
    names_ = {"grad_norm.csv", "grad_norm.png", "runs.csv"}
    WebDriverWait(browser, 20).until(lambda _: names_ <= {p.name for p in tmp_path.iterdir()})
    lines = (tmp_path / "grad_norm.csv").read_text().splitlines()
    assert lines[0].startswith("row,step 1,") and len(lines) == 1 + 5
    assert (tmp_path / "grad_norm.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "runs.csv").read_text().splitlines()[1].startswith("sweep/run0,finished,60,")
    body.send_keys(Keys.ESCAPE)
    assert "runs=" not in browser.current_url
    assert complaints(browser) == []


def test_what_no_run_has_leaves_no_empty_axes(browser, served):
    """A thing that is lacking is said once, not once a run."""
    visit(browser, served, 6)
    runs = keys_of(browser, *(f"sweep/run{i}" for i in range(4)))
    visit(browser, f"{served}#runs={runs}&name=nothing", 6)
    text = until(browser, "document.getElementById('lacking').textContent")
    assert text.strip() == "Not drawn: 4 runs: each has no `nothing`."
    assert browser.execute_script("return document.getElementById('curves').hidden")


def test_two_hundred_runs_can_be_sorted_and_grouped(browser, tmp_path):
    write_sweep(tmp_path, 2)
    originals = [(tmp_path / f"run{i}.h5").read_bytes() for i in range(2)]
    for i in range(2, 200):
        (tmp_path / f"run{i}.h5").write_bytes(originals[i % 2])
    page = serve_in_background([tmp_path])
    try:
        visit(browser, f"{page.url}#group=alpha", 200)
        begun = time.monotonic()
        browser.execute_script("view.sort = '-name'; drawTable()")
        assert time.monotonic() - begun < 2
        assert names(browser)[0] == "run198"
        groups = browser.execute_script(
            "return [...document.querySelectorAll('tr.group')].map((r) => r.textContent)"
        )
        assert groups == ["alpha = 0 (100)", "alpha = 0.5 (100)"]
    finally:
        page.close()
