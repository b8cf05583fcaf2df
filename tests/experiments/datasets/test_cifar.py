import hashlib
import pickle

import numpy as np
import pytest
from torchvision.datasets import CIFAR10

from gradscope.errors import DataError
from gradscope.experiments.config import Config
from gradscope.experiments.datasets.registry import load_dataset

PER_FILE = 20


def write_batch(path, seed):
    generator = np.random.default_rng(seed)
    content = {
        "data": generator.integers(256, size=(PER_FILE, 3072), dtype=np.uint8),
        "labels": [i % 10 for i in range(PER_FILE)],
    }
    path.write_bytes(pickle.dumps(content))
    return hashlib.md5(path.read_bytes()).hexdigest(), content


@pytest.fixture
def usual_files(tmp_path, monkeypatch):
    """CIFAR-10's files in their usual places, small and random, with their own checksums."""
    folder = tmp_path / CIFAR10.base_folder
    folder.mkdir()
    batches = {
        name: write_batch(folder / name, seed)
        for seed, name in enumerate([f"data_batch_{i}" for i in range(1, 6)] + ["test_batch"])
    }
    meta = folder / "batches.meta"
    meta.write_bytes(pickle.dumps({"label_names": [f"class{i}" for i in range(10)]}))
    monkeypatch.setattr(
        CIFAR10,
        "train_list",
        [[name, checksum] for name, (checksum, _) in batches.items() if name != "test_batch"],
    )
    monkeypatch.setattr(CIFAR10, "test_list", [["test_batch", batches["test_batch"][0]]])
    monkeypatch.setattr(
        CIFAR10,
        "meta",
        {
            "filename": meta.name,
            "key": "label_names",
            "md5": hashlib.md5(meta.read_bytes()).hexdigest(),
        },
    )
    return tmp_path, batches["test_batch"][1]


def test_the_usual_files_are_read(usual_files):
    folder, test_batch = usual_files
    dataset = load_dataset(Config(dataset="cifar10", data_dir=str(folder)))
    assert len(dataset.train) == 90
    assert len(dataset.val) == 10
    assert dataset.classes[3] == "class3"
    expected = test_batch["data"].reshape(-1, 3, 32, 32)
    assert np.array_equal(dataset.test.images.numpy(), expected)


def test_absent_files_say_how_to_get_them(tmp_path):
    with pytest.raises(DataError, match=r"no cifar100 in .*cifar-100-python.*--download"):
        load_dataset(Config(dataset="cifar100", data_dir=str(tmp_path)))
