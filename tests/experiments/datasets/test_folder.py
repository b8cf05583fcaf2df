import numpy as np
import pytest
from PIL import Image

from gradscope.errors import DataError, UsageError
from gradscope.experiments.config import Config
from gradscope.experiments.datasets.image import read_image
from gradscope.experiments.datasets.registry import load_dataset

SUFFIXES = ("png", "webp", "jpg", "bmp")


def make_images(folder, n=4, shade=0):
    folder.mkdir(parents=True)
    for i in range(n):
        pixels = np.full((32, 32, 3), shade + i, dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{i}.{SUFFIXES[i % 4]}", lossless=True)


@pytest.fixture
def root(tmp_path):
    for split in ("train", "test"):
        make_images(tmp_path / split / "cat", shade=10)
        make_images(tmp_path / split / "dog", shade=200)
    return tmp_path


def load(root):
    return load_dataset(Config(dataset="folder", data_dir=str(root)))


def test_images_of_several_formats_become_labelled_pixels(root):
    dataset = load(root)
    assert dataset.classes == ("cat", "dog")
    assert (len(dataset.train), len(dataset.val), len(dataset.test)) == (6, 2, 8)
    is_dog = dataset.test.images.float().mean((1, 2, 3)) > 100
    assert np.array_equal(is_dog.long(), dataset.test.labels)


def test_val_stands_in_for_test(root):
    (root / "test").rename(root / "val")
    assert len(load(root).test) == 8


def test_hidden_files_are_no_images(root):
    (root / "train" / "cat" / ".DS_Store").write_text("x")
    (root / "train" / ".cache").mkdir()
    assert load(root).classes == ("cat", "dog")


def test_another_size_is_cut_at_the_centre(tmp_path):
    wide = np.zeros((16, 48, 3), dtype=np.uint8)
    wide[:, 16:32] = 255
    Image.fromarray(wide).save(tmp_path / "wide.png")
    pixels = read_image(tmp_path / "wide.png", size=8)
    assert pixels.shape == (8, 8, 3)
    assert pixels[:, 2:6].min() == 255


def test_grey_and_palette_images_become_rgb(tmp_path):
    Image.new("L", (8, 8), 77).save(tmp_path / "grey.png")
    assert read_image(tmp_path / "grey.png", size=8).tolist()[0][0] == [77, 77, 77]


def test_a_folder_must_be_given():
    with pytest.raises(UsageError, match="needs --data-dir"):
        load_dataset(Config(dataset="folder"))


def test_a_missing_folder_says_what_was_looked_for(tmp_path):
    with pytest.raises(DataError, match=r"no folder .*train; looked for .*<class>"):
        load(tmp_path)


def test_an_empty_class_is_named(root):
    (root / "train" / "eel").mkdir()
    (root / "test" / "eel").mkdir()
    with pytest.raises(DataError, match=r"no images in .*eel"):
        load(root)


def test_a_single_class_is_refused(tmp_path):
    make_images(tmp_path / "train" / "cat")
    with pytest.raises(DataError, match="two or more classes; got only cat"):
        load(tmp_path)


def test_a_broken_image_is_named(root):
    (root / "train" / "cat" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n0000")
    with pytest.raises(DataError, match=r"broken\.png cannot be read"):
        load(root)


def test_a_truncated_image_is_named(root):
    whole = (root / "train" / "cat" / "2.jpg").read_bytes()
    (root / "train" / "cat" / "2.jpg").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"2\.jpg cannot be read"):
        load(root)


def test_other_test_classes_are_named(root):
    (root / "test" / "dog").rename(root / "test" / "wolf")
    with pytest.raises(DataError, match=r"missing: dog; not in training: wolf"):
        load(root)
