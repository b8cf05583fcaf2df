import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.colors import to_rgb

from gradscope.plots.axes.scales import Scale
from gradscope.report.colours import describe_scale


def test_colours_are_those_of_the_figures():
    found = describe_scale(Scale("log", 1e-3, 1.0))["colours"]
    for place, colour in zip(np.linspace(0, 1, len(found)), found, strict=True):
        np.testing.assert_allclose(
            to_rgb(colour), mpl.colormaps["viridis"](place)[:3], atol=1 / 255
        )
    assert describe_scale(Scale("symlog", -1, 1, threshold=0.01))["colours"][0] == "#053061"


@pytest.mark.parametrize(
    ("scale", "expected"),
    [
        (Scale("log", 1e-9, 1e-3), {1e-8: "10<sup>−8</sup>", 1e-4: "10<sup>−4</sup>"}),
        (Scale("log", 0.008, 0.3), {0.01: "0.01", 0.2: "0.2"}),
        (Scale("linear", 0.0, 1.0), {0.0: "0", 0.2: "0.2"}),
        (Scale("diverging", -0.5, 0.5), {-0.4: "−0.4", 0.0: "0"}),
        (Scale("diverging", -2e-6, 2e-6), {-1.6e-6: "−1.6×10<sup>−6</sup>", 0.0: "0"}),
        (Scale("symlog", -1.0, 1.0, threshold=1e-4), {-0.1: "−0.1", 0.0: "0"}),
        (Scale("log", 2.0e-7, 2.2e-7), {2.0e-7: "2×10<sup>−7</sup>"}),
    ],
)
def test_ticks_lie_on_the_bar_and_can_be_read(scale, expected):
    ticks = describe_scale(scale)["ticks"]
    values = [value for value, _ in ticks]
    assert 2 <= len(ticks) <= 9
    assert min(values) >= scale.low * (1 + 1e-9 * np.sign(-scale.low)) - 1e-30
    assert max(values) <= scale.high * (1 + 1e-9)
    for value, text in expected.items():
        near = [
            words for found, words in ticks if found == pytest.approx(value, rel=1e-6, abs=1e-30)
        ]
        assert near == [text]
