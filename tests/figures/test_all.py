"""Every figure of the study is drawn from committed results, and shown on one page."""

from __future__ import annotations

import importlib
import types

import pytest

all_figures = importlib.import_module("figures.all")  # `all` alone would hide the built-in
FIGURES = all_figures.find_figures()
DRAWABLE = {name: f for name, f in FIGURES.items() if not all_figures.missing_inputs(f)}


def test_calibration_is_among_them():
    assert "fig_calibration" in DRAWABLE


@pytest.mark.parametrize("name", FIGURES)
def test_figure_is_drawn_from_committed_results(name, tmp_path):
    figure = FIGURES[name]
    if name not in DRAWABLE:
        pytest.skip(f"no data/{all_figures.missing_inputs(figure)[0]} yet: not run so far")
    assert figure.CAPTION.endswith(".")
    pdf, png = all_figures.render(name, figure, tmp_path)
    assert pdf.read_bytes().startswith(b"%PDF") and b"/Type3" not in pdf.read_bytes()
    assert png.read_bytes().startswith(b"\x89PNG") and png.stat().st_size < 500_000


def test_page_shows_every_figure():
    page = all_figures.README.read_text(encoding="utf-8")
    assert page.endswith(all_figures.MARK + all_figures.page(DRAWABLE))
    for name in DRAWABLE:
        assert (all_figures.RENDERED / f"{name}.png").is_file()


def test_missing_input_is_named():
    figure = types.SimpleNamespace(INPUTS=("results/calibration.json", "results/nowhere.json"))
    assert all_figures.missing_inputs(figure) == ["results/nowhere.json"]


def test_unknown_name_is_one_line(capsys):
    with pytest.raises(SystemExit, match="2"):
        all_figures.main(["fig_calibraton"])
    assert "did you mean 'fig_calibration'" in capsys.readouterr().err


def test_calibration_bars_are_the_committed_shares():
    from figures.parts.results import read_result
    from gradscope.plots.axes.style import figure_style

    words = read_result("results/calibration.json")["worlds"]["clear"]["words"]
    with figure_style():
        ax = FIGURES["fig_calibration"].draw().axes[3]
    supported = [container for container in ax.containers if container.get_label() == "supported"]
    drawn = [bar.get_width() for bar in supported[0]]
    assert drawn == pytest.approx([words[claim].get("supported", 0.0) for claim in words])
