"""Sums are the same bits on any number of threads, whoever provides them."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from gradscope.native.jobs import MOST_PARTS, PART
from gradscope.record.measure.cpu.backend import CompiledBackend
from gradscope.record.measure.reference.sums import PARAM_SUMS

N = 3 * PART + 1000


def tensors(n_tensors=3):
    torch.manual_seed(0)
    grads, params, copies = torch.randn(3, n_tensors, N).unbind()
    return [t.unbind() for t in (grads, params, copies, grads.square())]


def sums(backend, grads, params, copies, squares):
    n_tensors = len(grads)
    edge = torch.full((n_tensors,), 0.5).double()
    out, output = torch.zeros(n_tensors, len(PARAM_SUMS)).double(), torch.zeros(6).double()
    rows = range(n_tensors)
    backend.gradients(out, rows, grads, params, copies)
    backend.updates(out, rows, params, copies, grads)
    backend.moments(out, rows, squares, grads, edge, 4 * edge)
    backend.add_output(grads[0], output)
    return np.concatenate([out.numpy().ravel(), output.numpy()])


@pytest.fixture
def threads():
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def test_sums_do_not_depend_on_the_number_of_threads(threads):
    assert 3 * N // PART < MOST_PARTS
    found = []
    for n in (1, 2, 5):
        threads(n)
        found.append(sums(CompiledBackend(), *tensors()))
    assert (found[0] == found[1]).all() and (found[0] == found[2]).all()


def test_a_pool_serves_where_torch_has_no_openmp(threads):
    threads(3)
    backend, given = CompiledBackend(), tensors()
    with_openmp = sums(backend, *given)
    backend._threads._parallel = None
    assert (sums(backend, *given) == with_openmp).all()
    assert backend._threads._pool is not None


def test_threads_that_train_at_once_do_not_mix():
    backend = CompiledBackend()

    def measure(value):
        tensor, found = torch.full((20_000,), value), torch.zeros(6).double()
        for _ in range(300):
            backend.add_output(tensor, found)
        return found.tolist()

    with ThreadPoolExecutor(4) as pool:
        values = [1.0, 2.0, 3.0, 4.0]
        for value, found in zip(values, pool.map(measure, values), strict=True):
            n = 300 * 20_000
            assert found == [n * value, n * value**2, value, 0, 0, n]


FORKED = """
import os, torch
from tests.native.test_threads import CompiledBackend, sums, tensors
torch.set_num_threads(2)
backend, given = CompiledBackend(), tensors()
here = sums(backend, *given)
if not os.fork():
    os._exit(0 if (sums(backend, *given) == here).all() else 1)
raise SystemExit(os.waitstatus_to_exitcode(os.wait()[1]))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform cannot fork")
def test_a_forked_process_measures_too():
    # OpenMP's threads do not outlive a fork: a child that asked for them would wait for ever.
    code = subprocess.run([sys.executable, "-c", FORKED], timeout=120, check=False).returncode
    assert code == 0
