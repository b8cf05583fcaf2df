"""Rebuild the pictures of the README and of the interactive pages below ``docs/images/``.

``python docs/make_pages.py [FOLDER]`` records real trainings in FOLDER (a temporary one by default)
and takes the pictures of `gradscope view` and `gradscope report` in a Chromium without a window,
which needs selenium, chromium and chromedriver. It takes about three minutes on two cores.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from PIL import Image
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

ROOT = Path(__file__).resolve().parents[1]
IMAGES = ROOT / "docs" / "images"
COMMAND = [sys.executable, "-m", "gradscope.cli.main"]
MAX_BYTES = 150_000
LIVE = [
    "--model",
    "vgg13",
    "--width",
    "0.125",
    "--epochs",
    "40",
    "--lr",
    "0.1",
    "--name",
    "long run",
]
SWEPT = ["--model", "plain", "--depth", "8", "--units", "64", "--epochs", "3"]


def gradscope(*words: str) -> None:
    """Run one of our commands here."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run([*COMMAND, *words], env=environment, check=True, stdout=subprocess.DEVNULL)


@contextlib.contextmanager
def started(*words: str) -> Iterator[subprocess.Popen[str]]:
    """Run one of our commands beside this process, for the length of a ``with`` block."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "text": True}
    with subprocess.Popen([*COMMAND, *words], env=environment, **streams) as process:
        try:
            yield process
        finally:
            process.terminate()


@contextlib.contextmanager
def browsing(width: int, height: int) -> Iterator[webdriver.Chrome]:
    """Open a browser without a window, for the length of a ``with`` block."""
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or shutil.which("google-chrome") or ""
    flags = ("--headless=new", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars")
    for flag in (*flags, f"--window-size={width},{height}"):
        options.add_argument(flag)
    if os.geteuid() == 0:
        options.add_argument("--no-sandbox")
    browser = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))
    try:
        yield browser
    finally:
        browser.quit()


def until(browser: webdriver.Chrome, script: str) -> None:
    """Wait until an expression of the page holds."""
    WebDriverWait(browser, 120, 0.2).until(lambda b: b.execute_script(f"return {script}"))


def keep(picture: Path, name: str, *, width: int = 1300) -> None:
    """Make a picture small enough for a page, in the colours that it needs."""
    with Image.open(picture) as image:
        size = (width, round(image.height * width / image.width))
        small = image.convert("RGB").resize(size, Image.Resampling.LANCZOS)
    target = IMAGES / name
    for n_colors in (256, 128, 64):
        few = small.quantize(n_colors, Image.Quantize.MAXCOVERAGE, 2, dither=Image.Dither.NONE)
        few.save(target, optimize=True)
        if target.stat().st_size <= MAX_BYTES:
            return
    raise SystemExit(f"{target} has {target.stat().st_size:,} bytes")


def show_first() -> None:
    """Draw the first picture of the README: the run that the README tells of."""
    gradscope("record", "--quiet", "--out", "first.h5")
    gradscope("plot", "first.h5", "--out", "first.png", "--overwrite")
    keep(Path("first.png"), "first-heatmap.png", width=1000)


def show_report() -> None:
    """Take the report of that run, with the pointer on a cell."""
    gradscope("report", "first.h5", "--out", "first.html", "--overwrite")
    with browsing(1400, 1000) as browser:
        browser.get(Path("first.html").resolve().as_uri())
        until(browser, "document.body.dataset.ready === 'yes'")
        point_at_map(browser)
        browser.save_screenshot("report.png")
    keep(Path("report.png"), "report.png")


def point_at_map(browser: webdriver.Chrome) -> None:
    """Move the pointer onto a cell of the heatmap."""
    area = browser.find_element(By.CSS_SELECTOR, "#plot .nsewdrag[data-subplot=xy2]")
    ActionChains(browser).move_to_element(area).move_by_offset(60, 20).perform()
    time.sleep(0.5)


def show_view() -> None:
    """Take the live page over a few finished runs and one that trains."""
    Path("runs").mkdir(exist_ok=True)
    for alpha, lr in (("0", "0.1"), ("0.25", "0.01"), ("0.5", "0.001")):
        for seed in ("0", "1"):
            out = f"runs/alpha{alpha}-s{seed}.h5"
            words = ["--alpha", alpha, "--lr", lr, "--seed", seed, "--quiet", "--overwrite"]
            gradscope("record", *SWEPT, *words, "--out", out)
    training = started("record", *LIVE, "--out", "runs/vgg13.h5", "--overwrite")
    with (
        training,
        started("view", "runs", "--port", "0") as server,
        browsing(1300, 1080) as browser,
    ):
        assert server.stdout is not None
        browser.get(server.stdout.readline().split()[2])
        until(
            browser,
            "[...(window.rows ?? rows).values()].some((r) => r.status === 'live' && r.step > 250)",
        )
        browser.find_element(By.XPATH, "//td[text()='vgg13']").click()
        until(browser, "document.querySelectorAll('#plot .heatmaplayer image').length === 1")
        time.sleep(3)
        browser.save_screenshot("view.png")
    keep(Path("view.png"), "view.png")


def main() -> None:
    """Make all pictures where the first argument says, or in a temporary folder."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        with contextlib.chdir(folder):
            show_first()
            show_report()
            show_view()


if __name__ == "__main__":
    main()
