"""Training in several processes: one file, global values, and nobody waits for the lost."""

from __future__ import annotations

import json

import numpy as np
import pytest
from torch import nn
from torch.nn.functional import cross_entropy

import gradscope
from tests.record.distributed.ranks import BATCH, N_STEPS, launch, make, shard


def single(folder, size, **options):
    """The same training in this process: each rank's batch is a micro-batch."""
    model, optimizer = make()
    optimizer = optimizer()
    path = folder / "single.h5"
    with gradscope.Recorder(model, optimizer, path, **options) as recorder:
        for k in range(1, N_STEPS + 1):
            optimizer.zero_grad()
            total = 0.0
            for rank in range(size):
                x, y = shard(k, size, rank)
                loss = cross_entropy(model(x.double()), y)
                (loss / size).backward()
                total += float(loss.detach()) / size
            nn.utils.clip_grad_norm_(model.parameters(), 0.1)
            optimizer.step()
            recorder.log(loss=total)
    return gradscope.open_recording(path).load()


TIMES = {"wall_time", "record_time"}


def floor(values, rtol):
    """Return the absolute tolerance: what terms of both signs sum to is as exact as the terms."""
    is_signed = values.name.endswith("_cosine")
    is_signed |= values.name in ("grad_mean", "output_mean", "descent")
    return rtol * float(np.abs(values).max()) if is_signed else 1e-12


def assert_same(tree, expected, rtol):
    assert set(tree.children) == set(expected.children)
    for group in expected.children:
        assert set(tree[group].data_vars) == set(expected[group].data_vars)
        for name, values in expected[group].data_vars.items():
            if name not in TIMES and not name.startswith("grad_sketch"):
                got, atol = tree[group][name].values, floor(values, rtol)
                np.testing.assert_allclose(got, values.values, rtol, atol, err_msg=name)
    for name in ("param", "shape", "depth", "layer_type"):
        got = tree["gradients"].coords[name].values
        assert got.tolist() == expected["gradients"].coords[name].values.tolist()
    assert tree.attrs["model_name"] == expected.attrs["model_name"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """What two, four and three ranks leave behind; one start for all tests."""
    folder = tmp_path_factory.mktemp("ranks")
    for name in ("two", "four", "three"):
        (folder / name).mkdir()
    launch(
        (2, folder / "two", "ddp", "fsdp", "cadence", "exists", "only_rank_0"),
        (4, folder / "four", "ddp", "fsdp"),
        (3, folder / "three", "leave_early", "stall", "die"),
    )
    return folder


@pytest.mark.slow
def test_global_values_of_two_ranks_equal_those_of_one_process(folder):
    assert_global(folder / "two", 2)


def test_global_values_of_four_ranks_equal_those_of_one_process(folder):
    assert_global(folder / "four", 4)


def assert_global(tmp_path, size):
    expected = single(tmp_path, size, record="full", flight_recorder=0)
    assert_same(gradscope.open_recording(tmp_path / "outer.h5").load(), expected, 1e-5)
    inner = gradscope.open_recording(tmp_path / "inner.h5").load()
    for name in ("gradients/grad_norm", "activations/output_grad_rms", "training/loss"):
        np.testing.assert_allclose(inner[name].values, expected[name].values, 1e-3, err_msg=name)
    sharded = gradscope.open_recording(tmp_path / "fsdp.h5").load()
    assert_same(sharded, expected.drop_nodes(["sketches", "noise"]), 1e-5)
    assert sharded.attrs["world_size"] == size


def test_rank_0_decides_and_nobody_hangs(folder):
    tree = gradscope.open_recording(folder / "two" / "cadence.h5").load()
    assert tree["gradients"]["step"].values.tolist() == [1, 3, 5, 7]
    assert tree["activations"]["step"].values.tolist() == [1, 3, 5, 7]
    assert tree["training/batch_size"].values.tolist() == [2 * BATCH] * 7
    alone = gradscope.open_recording(folder / "two" / "only_rank_0.h5").load()
    assert alone["training/batch_size"].values.tolist() == [BATCH] * N_STEPS
    assert alone.attrs["local_since_step"] == 1


def test_ranks_go_on_alone_when_one_is_lost(folder):
    for name in ("leave_early", "stall", "die"):
        tree = gradscope.open_recording(folder / "three" / name / "run.h5").load()
        assert tree["training"]["step"].values.tolist() == list(range(1, 27))
        since = tree.attrs["local_since_step"]
        assert 1 < since <= 8
        batch_size = tree["training/batch_size"].values
        assert (batch_size[: since - 1] == 3 * BATCH).all()
        assert (batch_size[since - 1 :] == BATCH).all()
        assert np.isfinite(tree["gradients/grad_norm"]).all()
        said = json.loads((folder / "three" / name / "rank0.json").read_text())
        assert len(said) == 1
        rank1 = json.loads((folder / "three" / name / "rank1.json").read_text())
        assert len(rank1) <= 1
