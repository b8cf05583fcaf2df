"""Rebuild the pictures of ``docs/gallery.md`` by running the commands that the page shows.

``python docs/make_gallery.py [FOLDER]`` runs every ``gradscope`` line of the page in FOLDER (a
temporary one by default; one that is given keeps its recordings, and those that exist are not made
again), makes each picture smaller for the screen and puts it into ``docs/images/gallery/``.
"""

from __future__ import annotations

import re
import shlex
import shutil
import sys
import tempfile
from pathlib import Path

from PIL import Image

from gradscope.cli.main import main as gradscope

DOCS = Path(__file__).resolve().parent
PAGE = DOCS / "gallery.md"
PICTURES = DOCS / "images" / "gallery"
BLOCK = re.compile(r"^```(sh|toml)(?: file=(\S+))?\n(.*?)^```", re.M | re.S)
N_COLORS, MAX_WIDTH = 200, 1000


def commands(page: str) -> list[list[str]]:
    """Return the words of every command of the page, in order."""
    lines = [
        line
        for language, _, text in BLOCK.findall(page)
        if language == "sh"
        for line in text.replace("\\\n", " ").splitlines()
    ]
    return [shlex.split(line) for line in lines]


def output(words: list[str]) -> Path | None:
    """Return the file that a command writes, where it says so."""
    return Path(words[words.index("--out") + 1]) if "--out" in words else None


def shrink(picture: Path, target: Path) -> None:
    """Make a picture of 400 dots an inch small enough for a page, in the colours that it needs."""
    with Image.open(picture) as image:
        factor = min(0.5, MAX_WIDTH / image.width)
        size = (round(image.width * factor), round(image.height * factor))
        small = image.convert("RGB").resize(size, Image.Resampling.LANCZOS)
    # The method that covers all colours: the default gives up rare ones, such as a second line's.
    few = small.quantize(N_COLORS, Image.Quantize.MAXCOVERAGE, 2, dither=Image.Dither.NONE)
    few.save(target, optimize=True)


def build(folder: Path) -> None:
    """Run the page in a folder."""
    page = PAGE.read_text(encoding="utf-8")
    for language, file, text in BLOCK.findall(page):
        if language == "toml":
            (folder / file).write_text(text, encoding="utf-8")
    shutil.copy(DOCS / "spiky_training.py", folder)
    PICTURES.mkdir(parents=True, exist_ok=True)
    for words in commands(page):
        made = output(words)
        if made is not None and made.suffix == ".h5" and made.exists():
            continue
        print("$", shlex.join(words), flush=True)
        again = ["--overwrite"] * (made is not None and made.suffix == ".png")
        if gradscope([*words[1:], *again]) != 0:
            raise SystemExit(f"failed: {shlex.join(words)}")
        if made is not None and made.suffix == ".png":
            shrink(made, PICTURES / made.name)


def main() -> None:
    """Run the page where the first argument says, or in a temporary folder."""
    import contextlib

    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        with contextlib.chdir(folder):
            build(folder.resolve())


if __name__ == "__main__":
    main()
