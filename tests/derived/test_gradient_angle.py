"""Which steps have an angle between their gradients."""

import numpy as np
import pytest
import xarray as xr

from gradscope.derived.gradient_angle import sketch_cosine
from gradscope.errors import RecordingError


def tree_of(last_sketch, last_norm):
    """Sketches that turn by 1 degree a step; their norm is 1 and exact."""
    angle = np.radians(np.arange(1, last_sketch + 1))
    sketches = np.stack([np.cos(angle), np.sin(angle)], axis=1)[:, None]
    norms = np.ones((last_norm, 1))
    return xr.DataTree.from_dict(
        {
            "/sketches": xr.Dataset(
                {"grad_sketch": (("step", "param", "sketch"), sketches)},
                {"step": np.arange(1, last_sketch + 1), "param": ["w"]},
            ),
            "/gradients": xr.Dataset(
                {"grad_norm": (("step", "param"), norms)},
                {"step": np.arange(1, last_norm + 1), "param": ["w"]},
            ),
        }
    )


@pytest.mark.parametrize(
    ("last_sketch", "last_norm", "name"), [(50, 40, "grad_norm"), (40, 50, "grad_sketch")]
)
def test_a_step_that_one_group_does_not_hold_is_named(last_sketch, last_norm, name):
    tree = tree_of(last_sketch, last_norm)
    assert float(sketch_cosine(tree, 10, 40)[0]) == pytest.approx(np.cos(np.radians(30)))
    for steps in ((10, 45), (45, 10)):
        with pytest.raises(RecordingError, match=f"step 45 has no `{name}`; .* step is 40"):
            sketch_cosine(tree, *steps)


@pytest.mark.parametrize("group", ["sketches", "gradients"])
def test_a_group_that_was_not_recorded_or_is_empty_is_named(group):
    tree = tree_of(5, 5)
    empty = tree.copy()
    empty[group] = tree[group].to_dataset().isel(step=slice(0))
    with pytest.raises(RecordingError, match=r"step 1 has no `.*`; the nearest .* is none"):
        sketch_cosine(empty, 1, 2)
    del tree[group]
    with pytest.raises(RecordingError, match=f"holds no /{group}/"):
        sketch_cosine(tree, 1, 2)
