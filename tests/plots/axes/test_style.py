import io

import matplotlib
import matplotlib.image
import pytest

from gradscope.errors import UsageError
from gradscope.plots.axes.style import figure_style, new_figure, save_figure, width_mm


def test_style_ends_with_its_context_and_ignores_the_users_settings():
    with matplotlib.rc_context({"font.size": 33, "axes.facecolor": "red"}):
        before = dict(matplotlib.rcParams)
        with figure_style():
            assert matplotlib.rcParams["font.size"] == 7
            assert matplotlib.rcParams["axes.facecolor"] == "white"
            assert matplotlib.rcParams["pdf.fonttype"] == 42
        assert dict(matplotlib.rcParams) == before


def test_styles_scale_the_text():
    with figure_style("talk"):
        assert matplotlib.rcParams["font.size"] == 14
    with pytest.raises(UsageError, match="unknown style 'poster'"), figure_style("poster"):
        pass


def test_widths_are_millimetres():
    assert width_mm("column") == 89
    assert width_mm("120") == 120
    assert new_figure(89, 50).get_size_inches() == pytest.approx((89 / 25.4, 50 / 25.4))
    for wrong, message in (("wide", "unknown width 'wide'"), ("10", "between 40 and 1000")):
        with pytest.raises(UsageError, match=message):
            width_mm(wrong)


def test_a_failed_write_leaves_the_old_picture(tmp_path, monkeypatch):
    path = tmp_path / "figure.png"
    path.write_bytes(b"good")
    figure = new_figure(50, 50)

    def savefig(*_, **__):
        raise OSError("disk full")

    monkeypatch.setattr(figure, "savefig", savefig)
    with pytest.raises(OSError, match="disk full"):
        save_figure(figure, path)
    assert path.read_bytes() == b"good" and list(tmp_path.iterdir()) == [path]


def test_other_formats_are_refused(tmp_path):
    with pytest.raises(UsageError, match="is written as png, pdf or svg"):
        save_figure(new_figure(50, 50), tmp_path / "figure.tiff")


def test_notebooks_get_a_png():
    assert new_figure(50, 50)._repr_png_().startswith(b"\x89PNG")


def test_a_notebook_shows_the_colours_of_the_files():
    with figure_style():
        figure = new_figure(40, 40)
        figure.add_subplot().axhline(0.5, color="C0", linewidth=50)
    picture = matplotlib.image.imread(io.BytesIO(figure._repr_png_()))
    middle = picture[picture.shape[0] // 2, picture.shape[1] // 2, :3]
    assert (middle * 255).round().astype(int).tolist() == [0x00, 0x72, 0xB2]
