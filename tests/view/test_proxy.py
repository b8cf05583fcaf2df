"""The live page behind a proxy with a prefix, in a real browser: Jupyter's /user/x/proxy/8000/."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import pytest

pytest.importorskip("selenium")
pytest.importorskip("uvicorn")
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from tests.report.browser import complaints, start_browser
from tests.view.conftest import Training
from tests.view.proxy import PREFIX, ReverseProxy

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def browser():
    driver = start_browser()
    yield driver
    driver.quit()


@contextlib.contextmanager
def served(folder, *words):
    """Run ``gradscope view`` as a user does; yields its port."""
    command = [sys.executable, "-m", "gradscope.cli.main", "view", str(folder), "--port", "0"]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        [*command, *words], env=env, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            url = process.stdout.readline().split()[2]
            yield urlsplit(url).port
        finally:
            process.terminate()
            process.wait(10)


def until(browser, script, seconds=40):
    return WebDriverWait(browser, seconds, 0.1).until(
        lambda b: b.execute_script(f"return {script}")
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("is_stripping", "words"),
    [
        (True, ()),
        (False, ("--root-path", f"{PREFIX}/", "--token", "right")),
    ],
    ids=["strips", "strips not, with a token"],
)
def test_a_live_run_is_followed_through_a_proxy(browser, tmp_path, is_stripping, words):
    training = Training(tmp_path / "live.h5", last=4000)
    training.start()
    with served(tmp_path, *words) as port:
        proxy = ReverseProxy(port, is_stripping=is_stripping)
        try:
            browser.get(proxy.url + ("?token=right" if "--token" in words else ""))
            until(browser, "document.body?.dataset.ready === 'yes' && rows.size === 1")
            until(browser, "document.getElementById('link').textContent === 'following'")
            browser.find_element(By.XPATH, "//td[text()='live' and @title='live']").click()
            last = (
                "document.getElementById('plot').data?.find((t) => t.type === 'heatmap')?.x.at(-1)"
            )
            first = until(browser, last)
            until(browser, f"{last} > {first}")
            address = browser.current_url
            assert address.startswith(f"{proxy.url}#runs=") and "token" not in address
            browser.get("about:blank")
            browser.get(address)  # a link reopens the view
            until(browser, last)
            assert all(path.startswith(PREFIX) for path in proxy.asked)
            assert complaints(browser) == []
        finally:
            training.end()
            browser.get("about:blank")
            proxy.close()


def test_an_address_without_its_last_slash_is_sent_on(browser, tmp_path):
    with served(tmp_path, "--root-path", PREFIX) as port:
        proxy = ReverseProxy(port, is_stripping=False)
        try:
            browser.get(proxy.url.removesuffix("/"))
            until(browser, "document.body?.dataset.ready === 'yes'")
            assert browser.current_url == proxy.url
        finally:
            browser.get("about:blank")
            proxy.close()
