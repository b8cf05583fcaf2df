import numpy as np
import xarray as xr

from gradscope.derived.alarms import alarms


def tree_of(loss=(1.0, 0.9), skipped=(0, 0), nonfinite=((0, 0), (0, 0)), zero=((0, 0), (0, 0))):
    at = ("step", "param")
    coords = {"step": [1, 2]}
    return xr.DataTree.from_dict(
        {
            "training": xr.Dataset(
                {"loss": ("step", list(loss)), "is_skipped": ("step", list(skipped))}, coords
            ),
            "gradients": xr.Dataset(
                {
                    "grad_nonfinite": (at, np.array(nonfinite, float)),
                    "grad_zero_fraction": (at, np.array(zero, float)),
                },
                {**coords, "param": ["a.weight", "b.weight"]},
            ),
        }
    )


def test_a_sound_run_raises_none():
    assert alarms(tree_of()) == []
    assert alarms(xr.DataTree()) == []


def test_each_alarm_says_what_and_where():
    assert alarms(tree_of(loss=(1.0, np.nan))) == ["the last loss is NaN"]
    assert alarms(tree_of(skipped=(0, 1))) == ["50% of the last 2 steps were skipped"]
    found = alarms(tree_of(nonfinite=((0, 3), (0, 0)), zero=((1, 0), (1, 0))))
    assert found == ["non-finite gradients in b.weight", "gradients are exactly zero in a.weight"]
