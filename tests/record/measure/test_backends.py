"""Fast kernels against the float64 reference, over shapes, scales, layouts and rubbish."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from gradscope.record.measure.choose import _warn_of_reference, choose_backend
from gradscope.record.measure.cpu.backend import CompiledBackend
from gradscope.record.measure.reference import sums
from gradscope.record.measure.reference.backend import ReferenceBackend
from gradscope.record.measure.reference.sums import (
    GRADIENT,
    MOMENT,
    OUTPUT_SUMS,
    PARAM_SUMS,
    UPDATE,
)

INF = torch.inf


def make(shape, scale=1.0, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * scale


CASES = {
    "one": [(1,)],
    "odd sizes": [(3,), (4095,), (4097,), (5, 7, 3)],
    "many threads": [(700, 900), (11,), (300, 1000)],
    "empty": [(0,), (5,)],
}
SPECIALS = {
    "plain": lambda g: g,
    "tiny": lambda g: g * 1e-20,
    "denormal": lambda g: g * 1e-41,
    "huge": lambda g: g * 1e15,
    "mixed": lambda g: g * torch.logspace(-12, 3, g.numel()).reshape(g.shape),
    "zeros": lambda g: g * (g > 0),
    "all zero": lambda g: g * 0,
    "non-finite": lambda g: torch.where(g > 1, INF, torch.where(g < -1, torch.nan, g)),
}


def filled(backend, grads, params, after, v, m, below, above):
    out = torch.full((len(grads), len(PARAM_SUMS)), torch.nan, dtype=torch.float64)
    rows = list(range(len(grads)))
    copies = [torch.empty_like(p) for p in params]
    backend.gradients(out, rows, grads, params, copies)
    assert all(torch.equal(c, p) for c, p in zip(copies, params, strict=True))
    backend.updates(out, rows, copies, after, grads)
    backend.moments(out, rows, v, m, below, above)
    return out.numpy()


def assert_same(fast, exact, grads):
    """Sums of one sign to float32 rounding, sums with cancellation relative to what was summed."""
    bounds = {
        "grad_sum": "grad_abs_sum",
        "grad_param_dot": ("grad_square_sum", "param_square_sum"),
        "update_grad_dot": ("update_square_sum", "grad_square_sum"),
        "update_param_dot": ("update_square_sum", "param_square_sum"),
    }
    column = {name: exact[:, i] for i, name in enumerate(PARAM_SUMS)}
    for i, name in enumerate(PARAM_SUMS[:-1]):
        size = np.abs(column[name])
        if name in bounds:
            parts = bounds[name]
            size = (
                column[parts]
                if isinstance(parts, str)
                else np.sqrt(column[parts[0]] * column[parts[1]])
            )
        if name == "moment_log_sum":
            size = np.sqrt(column["moment_log_square_sum"] * [max(g.numel(), 1) for g in grads])
        tolerance = 0.0 if "_n_" in name or "max" in name else 4e-7
        error = np.abs(fast[:, i] - exact[:, i])
        assert (np.isnan(error) == np.isnan(exact[:, i])).all(), name
        assert (np.nan_to_num(error) <= tolerance * np.nan_to_num(size)).all(), (
            name,
            fast[:, i],
            exact[:, i],
        )


@pytest.mark.parametrize("special", SPECIALS)
@pytest.mark.parametrize("case", CASES)
def test_compiled_equals_reference(case, special):
    grads = [SPECIALS[special](make(s, 1.0, i)) for i, s in enumerate(CASES[case])]
    params = [make(s, 0.02, 100 + i) for i, s in enumerate(CASES[case])]
    after = [
        p - 1e-3 * torch.nan_to_num(g.clamp(-1, 1)) for p, g in zip(params, grads, strict=True)
    ]
    v = [g.square() for g in grads]
    m = [None if i == 1 else 0.1 * g for i, g in enumerate(grads)]
    below = torch.full((len(grads),), 1e-6, dtype=torch.float64)
    above = torch.full((len(grads),), 2.0, dtype=torch.float64)
    fast = filled(CompiledBackend(), grads, params, after, v, m, below, above)
    exact = filled(ReferenceBackend(), grads, params, after, v, m, below, above)
    assert_same(fast, exact, grads)


def test_layouts_and_dtypes_that_do_not_fit_fall_back():
    shape = (4, 6, 5, 5)
    grads = [
        make(shape),
        make(shape).to(memory_format=torch.channels_last),
        make(shape).double(),
        make(shape).bfloat16(),
        make((8, 12))[:, ::2],
        make((1,)).expand(9),
    ]
    params = [torch.randn_like(g.contiguous() if i != 1 else g) for i, g in enumerate(grads)]
    copies = [torch.empty_like(p) for p in params]
    fast, exact = torch.zeros(6, len(PARAM_SUMS)).double(), torch.zeros(6, len(PARAM_SUMS)).double()
    CompiledBackend().gradients(fast, range(6), grads, params, copies)
    assert all(torch.equal(c, p) for c, p in zip(copies, params, strict=True))
    ReferenceBackend().gradients(exact, range(6), grads, params, [])
    torch.testing.assert_close(fast[:, GRADIENT], exact[:, GRADIENT], rtol=1e-6, atol=1e-5)


@pytest.mark.parametrize("special", SPECIALS)
@pytest.mark.parametrize("n", [1, 100, 5000, 1_000_003])
def test_outputs(special, n):
    y = SPECIALS[special](make((n,)))
    fast, exact = torch.zeros(6).double(), torch.zeros(6).double()
    for _ in range(2):  # two micro-batches
        CompiledBackend().add_output(y, fast)
        sums.add_output(y, exact)
    assert fast[2:].tolist() == exact[2:].tolist()
    total = float(torch.nan_to_num(y.double(), 0, 0, 0).abs().sum())
    assert abs(float(fast[0] - exact[0])) <= 1e-6 * total
    assert float(fast[1]) == pytest.approx(float(exact[1]), rel=4e-7)


def test_reference_sums_by_hand():
    g = torch.tensor([3.0, 0.0, -1.0, torch.nan, INF])
    p = torch.tensor([1.0, 2.0, 4.0, 8.0, -1.0])
    # finite g: 3, 0, -1; |g| 4; g^2 10; g^4 82; max 3; one zero; two not finite
    # g.theta = 3 - 4; theta^2 = 1 + 4 + 16 + 64 + 1
    assert sums.gradient_sums(g, p).tolist() == [2, 4, 10, 82, 3, 1, 2, -1, 86]
    after = torch.tensor([0.0, 2.0, 5.0, 8.0, -1.0])
    # u = -1, 0, 1, 0, 0; u.g = -3 - 1; u.theta = -1 + 4
    assert sums.update_sums(p, after, g).tolist() == [2, -4, 3]
    v = torch.tensor([1.0, 0.0, float(np.exp(2.0))], dtype=torch.float64)
    found = sums.moment_sums(v, torch.tensor([1.0, 2.0, 2.0]), torch.tensor(0.5), torch.tensor(INF))
    expected = [1 + np.exp(2), np.exp(2), 2, 4, 1, 0, 1, 9]
    assert found.tolist() == pytest.approx(expected, rel=1e-12)


def test_log2_counts_by_hand():
    x = torch.tensor([0.0, 1.0, 1.99, -2.0, 0.5, 0.49, 8.0, 1e30, -1e-30, 1e-45, INF, torch.nan])
    # bins -1..2: 0.5 | 1, 1.99 | -2 | none; zero 1; under: 0.49, 1e-30, 1e-45; over: 8, 1e30
    assert sums.log2_counts(x, (-1, 2)).tolist() == [1, 2, 1, 0, 1, 3, 2, 2]


@pytest.mark.parametrize("bins", [(-80, 15), (-149, 31)])
@pytest.mark.parametrize("special", SPECIALS)
@pytest.mark.parametrize("case", CASES)
def test_log2_counts(case, special, bins):
    tensors = [SPECIALS[special](make(s, 1.0, i)) for i, s in enumerate(CASES[case])]
    shape = (len(tensors), bins[1] - bins[0] + 5)
    fast, exact = torch.zeros(shape).double(), torch.zeros(shape).double()
    rows = list(range(len(tensors)))
    CompiledBackend().log2_counts(fast, rows, tensors, bins)
    ReferenceBackend().log2_counts(exact, rows, tensors, bins)
    assert torch.equal(fast, exact)
    assert fast.sum(dim=1).tolist() == [t.numel() for t in tensors]


def test_slices_cover_the_sums():
    assert [GRADIENT.stop, UPDATE.stop, MOMENT.stop] == [9, 12, 20] and len(PARAM_SUMS) == 21


def test_epsilon_edges_by_hand():
    def tensor(*x):
        return torch.tensor(x, dtype=torch.float64)

    edges = sums.EpsilonEdges(
        tensor(0.5, -0.5, 0.0, 0.0), tensor(0.0, 0.0, 0.0, 0.0), tensor(1e-3, 1e-3, 1e-3, 0.2)
    )
    below, above = edges.at(tensor(1, 1, 1, 1))
    # alpha 0.5: sqrt(v) <= 0.01 <=> v <= 1e-4; -0.5: 1/sqrt(v) <= 0.01 <=> v >= 1e4
    assert below.tolist() == pytest.approx([1e-4, -1, -1, INF])
    assert above.tolist() == pytest.approx([INF, 1e4, INF, INF])


def test_where_nothing_compiles_the_reference_serves_with_one_warning(monkeypatch):
    def probe(self):
        raise RuntimeError("no compiler for this processor")

    monkeypatch.setattr(CompiledBackend, "probe", probe)
    _warn_of_reference.cache_clear()
    with pytest.warns(RuntimeWarning, match="no compiler for this processor") as warned:
        backends = [choose_backend(torch.device("cpu")) for _ in range(3)]
    assert [type(b) for b in backends] == [ReferenceBackend] * 3
    assert len(warned) == 1


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_outputs_in_half_precision_are_measured_in_the_compiled_pass(dtype, monkeypatch):
    def refuse(self, tensor, sums):
        raise AssertionError("measured by the reference")

    monkeypatch.setattr(ReferenceBackend, "add_output", refuse)
    output = make((300, 7, 11)).to(dtype).transpose(0, 2)
    sums = torch.zeros(len(OUTPUT_SUMS), dtype=torch.float64)
    CompiledBackend().add_output(output, sums)
    exact = output.double()
    known = dict(zip(OUTPUT_SUMS, sums.tolist(), strict=True))
    assert known["square_sum"] == pytest.approx(exact.square().sum().item(), rel=1e-6)
    assert known["abs_max"] == exact.abs().max().item()
