"""Images in zip archives are those of the folders that were packed."""

from __future__ import annotations

import zipfile

import numpy as np
import pytest
import torch
from PIL import Image

from gradscope.errors import DataError
from gradscope.experiments.config import Config
from gradscope.experiments.datasets import cifar, folder


@pytest.fixture
def images(tmp_path):
    """Three training images and a test image for each of two classes, as files."""
    rng = np.random.default_rng(0)
    root = tmp_path / "images"
    for split, count in (("train", 3), ("test", 1)):
        for label in ("cat", "dog"):
            (root / split / label).mkdir(parents=True)
            for index in range(count):
                pixels = rng.integers(256, size=(32, 32, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(root / split / label / f"{index}.png")
    return root


def pack(root, path, *patterns):
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(file for pattern in patterns for file in root.glob(pattern)):
            archive.write(file, file.relative_to(root))


def assert_same(source, other):
    assert source.classes == other.classes
    for split, own in ((source.train, other.train), (source.test, other.test)):
        assert torch.equal(split.images, own.images) and torch.equal(split.labels, own.labels)


def test_one_archive_and_several_are_the_folder(images, tmp_path):
    expected = folder.load(Config(dataset="folder", data_dir=str(images)))
    pack(images, tmp_path / "all.zip", "*/*/*")
    assert_same(folder.load(Config(dataset="folder", data_dir=str(tmp_path / "all.zip"))), expected)
    parts = tmp_path / "parts"
    parts.mkdir()
    pack(images, parts / "cifar10-test.zip", "test/*/*")
    pack(images, parts / "cifar10-train-a.zip", "train/*/0.png")
    pack(images, parts / "cifar10-train-b.zip", "train/*/[12].png")
    assert_same(folder.load(Config(dataset="folder", data_dir=str(parts))), expected)
    pack(images, parts / "cifar100-test.zip", "test/*/*")
    assert_same(cifar.load(Config(dataset="cifar10", data_dir=str(parts))), expected)


def test_what_is_wrong_with_an_archive_is_named(images, tmp_path):
    broken, partial = tmp_path / "broken.zip", tmp_path / "partial.zip"
    broken.write_bytes(b"PK no archive")
    with pytest.raises(DataError, match=r"broken\.zip is no zip archive, or cannot be read"):
        folder.load(Config(dataset="folder", data_dir=str(broken)))
    pack(images, partial, "train/*/*", "test/cat/*")
    with pytest.raises(DataError, match=r"test/ in partial\.zip differ .*missing: dog"):
        folder.load(Config(dataset="folder", data_dir=str(partial)))
    (images / "train/cat/0.png").write_bytes(b"no image")
    pack(images, tmp_path / "bad.zip", "*/*/*")
    with pytest.raises(DataError, match=r"train/cat/0\.png cannot be read as an image"):
        folder.load(Config(dataset="folder", data_dir=str(tmp_path / "bad.zip")))


def test_an_archive_that_is_there_twice_is_refused(images, tmp_path):
    """Its images would stand on both sides of the split that holds some out."""
    for name in ("cifar10-all.zip", "cifar10-all (1).zip"):
        pack(images, tmp_path / name, "*/*/*")
    for load, name in ((cifar.load, "cifar10"), (folder.load, "folder")):
        with pytest.raises(DataError, match=r"holds test/cat/0\.png again, as .*cifar10-all \(1\)"):
            load(Config(dataset=name, data_dir=str(tmp_path)))


def test_an_archive_of_cifar_without_some_images_is_refused(images, tmp_path):
    pack(images, tmp_path / "cifar10-some.zip", "train/cat/*", "train/dog/0.png", "test/*/*")
    with pytest.raises(DataError, match=r"train/dog has 1 images, other classes have up to 3"):
        cifar.load(Config(dataset="cifar10", data_dir=str(tmp_path)))
    assert len(folder.load(Config(dataset="folder", data_dir=str(tmp_path))).train) == 4


def test_an_encrypted_archive_is_refused(images, tmp_path):
    path = tmp_path / "locked.zip"
    pack(images, path, "*/*/*")
    data = bytearray(path.read_bytes())
    for mark, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):  # in both headers of each file
        at = data.find(mark)
        while at >= 0:
            data[at + flags] |= 1
            at = data.find(mark, at + 1)
    path.write_bytes(data)
    with pytest.raises(DataError, match=r"locked\.zip .*cannot be read: .*encrypted"):
        folder.load(Config(dataset="folder", data_dir=str(path)))
