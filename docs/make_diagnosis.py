"""Make the recordings and the pictures of ``docs/diagnosis.md``: ``python docs/make_diagnosis.py``.

Takes about two minutes on one core. Names as arguments make only those. The table of rules in the
page is written anew from the rules themselves.
"""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from gradscope.derived import RULES

ROOT = Path(__file__).parents[1]
RECORDINGS = Path("data/diagnosis")
PICTURES = Path("docs/images/diagnosis")
BEGIN, END = "<!-- rules -->", "<!-- end of rules -->"
WIDTH = 700
"""Pixels of a picture."""
_SCRIPT = "docs/diagnosis/faulty.py"
_TANH = "--model plain --depth 20 --units 64 --no-batch-norm --activation tanh --bias"
_PLAIN = "--model plain --depth 6 --units 64 --no-batch-norm"
_SHORT = "--steps 100 --every 4 --weight-decay 0 --device cpu"
_DENSE = "--steps 100 --every 3 --weight-decay 0 --device cpu"


@dataclass(frozen=True)
class Case:
    """One recording of the page: how it is made, which rule fires, what is drawn."""

    name: str
    rule: str | None
    options: str
    quantity: str = "grad_norm"

    @property
    def recording(self) -> Path:
        """Where the recording lies, from the root of the repository."""
        return RECORDINGS / f"{self.name}.h5"

    @property
    def picture(self) -> Path:
        """Where the heatmap lies, from the root of the repository."""
        return PICTURES / f"{self.name}.png"

    @property
    def record_command(self) -> str:
        """The command that made the recording."""
        return f"gradscope record --out {self.recording} --overwrite {self.options}"

    @property
    def plot_command(self) -> str:
        """The command that drew the heatmap."""
        return f"gradscope plot {self.recording} --quantity {self.quantity} --out {self.picture}"


CASES = (
    Case("healthy", None, f"--model vgg13 --width 0.125 --alpha 0 --lr 0.3 {_SHORT}"),
    Case("vanishing", "vanishing gradients", f"{_TANH} --gain 0.5 --alpha 0 --lr 0.3 {_SHORT}"),
    Case("exploding", "exploding gradients", f"{_TANH} --gain 8 --alpha 0 --lr 1e-7 {_SHORT}"),
    Case(
        "dead-relu",
        "dead ReLU",
        f"--every 2 {_SCRIPT} dead-relu",
        "output_zero_fraction --by layer",
    ),
    Case(
        "lr-too-high",
        "learning rate too high",
        f"--model vgg13 --width 0.125 --alpha 0 --lr 100 {_DENSE}",
    ),
    Case(
        "lr-too-low",
        "learning rate too low",
        f"{_PLAIN} --alpha 0.5 --lr 1e-7 {_DENSE}",
        "update_ratio",
    ),
    Case(
        "no-warmup",
        "transformer without warm-up",
        f"--record light --every 3 {_SCRIPT} no-warmup",
        "grad_norm --layers linear1",
    ),
    Case("fp16-overflow", "fp16 overflow", f"--every 2 {_SCRIPT} fp16-overflow", "grad_nonfinite"),
    Case("frozen-layer", "frozen layer", f"--every 2 {_SCRIPT} frozen-layer"),
    Case("bad-init", "bad init", f"--every 2 {_SCRIPT} bad-init", "output_rms"),
)


def run(command: str) -> None:
    """Run one of our commands, from the root of the repository."""
    words = [sys.executable, "-m", *command.split()]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run(words, cwd=ROOT, env=environment, check=True)


def shrink(picture: Path) -> None:
    """Make a picture small enough for a page: 700 pixels wide, 200 colours."""
    with Image.open(picture) as image:
        height = round(image.height * WIDTH / image.width)
        small = image.convert("RGB").resize((WIDTH, height), Image.Resampling.LANCZOS)
    # The method that covers all colours: the default gives up rare ones, such as the bar's ends.
    few = small.quantize(200, Image.Quantize.MAXCOVERAGE, 2, dither=Image.Dither.NONE)
    few.save(picture, optimize=True)


def rules_table() -> str:
    """Lay out what each rule looks at."""
    lines = ["| rule | looks at | thresholds |", "|---|---|---|"]
    for rule in RULES:
        numbers = ", ".join(f"{name} {value:g}" for name, value in rule.thresholds.items())
        lines.append(f"| {rule.name} | {rule.formula} | {numbers} |")
    return "\n".join(lines)


def write_table(page: Path) -> None:
    """Replace the table of rules in the page."""
    before, _, rest = page.read_text(encoding="utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    page.write_text(f"{before}{BEGIN}\n{rules_table()}\n{END}{after}", encoding="utf-8")


def main() -> None:
    """Make all, or those that are named."""
    names = sys.argv[1:]
    for folder in (RECORDINGS, PICTURES):
        (ROOT / folder).mkdir(parents=True, exist_ok=True)
    for case in CASES:
        if not names or case.name in names:
            run(case.record_command)
            run(f"{case.plot_command} --overwrite")
            shrink(ROOT / case.picture)
    write_table(ROOT / "docs" / "diagnosis.md")


if __name__ == "__main__":
    main()
