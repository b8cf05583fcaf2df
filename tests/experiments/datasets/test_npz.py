import numpy as np
import pytest

from gradscope.errors import DataError, UsageError
from gradscope.experiments.config import Config
from gradscope.experiments.datasets.registry import load_dataset


def make_arrays(n=20):
    images = np.random.default_rng(0).integers(256, size=(n, 8, 6, 3), dtype=np.uint8)
    labels = np.arange(n) % 2 * 5 + 3
    return {"x_train": images, "y_train": labels, "x_test": images[:4], "y_test": labels[:4]}


def load(tmp_path, **changes):
    path = tmp_path / "data.npz"
    arrays = {key: value for key, value in (make_arrays() | changes).items() if value is not None}
    np.savez(path, **arrays)
    return load_dataset(Config(dataset="npz", data_dir=str(path)))


def test_arrays_become_labelled_images(tmp_path):
    dataset = load(tmp_path)
    assert dataset.classes == ("3", "8")
    assert np.array_equal(
        dataset.test.images.numpy(), make_arrays()["x_test"].transpose(0, 3, 1, 2)
    )
    assert dataset.test.labels.tolist() == [0, 1, 0, 1]


def test_grey_images_have_one_channel(tmp_path):
    arrays = make_arrays()
    grey = {key: arrays[key][..., 0] for key in ("x_train", "x_test")}
    assert load(tmp_path, **grey).train.images.shape[1:] == (1, 8, 6)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"x_test": None}, r"has no x_test; it has"),
        ({"x_train": make_arrays()["x_train"] / 255}, "x_train must be uint8"),
        ({"y_train": np.arange(3)}, "one whole number for each image"),
        ({"y_test": np.array([3, 8, 3, 9])}, "classes of y_test differ"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, changes, message):
    with pytest.raises(DataError, match=message):
        load(tmp_path, **changes)


def test_pickled_objects_are_not_loaded(tmp_path):
    with pytest.raises(DataError, match=r"no \.npz archive of plain arrays"):
        load(tmp_path, y_train=np.array([{}] * 20, dtype=object))


def test_a_file_that_is_no_archive_is_named(tmp_path):
    path = tmp_path / "data.npz"
    path.write_text("hello")
    with pytest.raises(DataError, match=r"data\.npz is no \.npz archive"):
        load_dataset(Config(dataset="npz", data_dir=str(path)))
    with pytest.raises(DataError, match="no file"):
        load_dataset(Config(dataset="npz", data_dir=str(tmp_path / "absent.npz")))
    with pytest.raises(UsageError, match="needs --data-dir FILE"):
        load_dataset(Config(dataset="npz"))
