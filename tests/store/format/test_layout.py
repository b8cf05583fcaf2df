"""Sizes that the store promises, and that opening reads no numbers."""

import numpy as np
import pytest

from gradscope.errors import RecordingError
from gradscope.store.format.layout import chunk_shape
from gradscope.store.read import lazy
from gradscope.store.read.recording import open_recording
from gradscope.store.write.writer import RecordingWriter
from tests.helpers import write_recording


def test_ten_thousand_rows_of_random_values_take_at_most_four_fifths(tmp_path):
    rng = np.random.default_rng(0)
    writer = RecordingWriter(tmp_path / "run.h5")
    writer.set_axis("param", {"param": [f"p{i}" for i in range(20)]})
    steps = np.arange(1, 10_001)
    values = np.exp(0.3 * rng.standard_normal((len(steps), 20)))
    writer.append("gradients", {"step": steps, "grad_norm": values})
    writer.close()
    assert writer.path.stat().st_size <= 0.8 * (values.size * 4 + steps.nbytes)


def test_opening_reads_no_variable(tmp_path, monkeypatch):
    path = write_recording(tmp_path / "run.h5", 5, 2)

    def read(*_):
        raise AssertionError("a variable was read")

    monkeypatch.setattr(lazy, "read_block", read)
    tree = open_recording(path)
    assert repr(tree)
    with pytest.raises(AssertionError, match="was read"):
        tree["gradients"]["grad_norm"].load()


def test_a_changed_bit_of_a_small_array_is_seen(tmp_path):
    path = write_recording(tmp_path / "run.h5", 5, 2)
    with open_recording(path) as tree:
        stored = tree["gradients"]["grad_norm"].values.tobytes()
    data = bytearray(path.read_bytes())
    assert data.count(stored) == 1
    data[data.index(stored) + 1] ^= 1
    path.write_bytes(data)
    with pytest.raises(RecordingError, match=r"run\.h5"):
        open_recording(path).load()


@pytest.mark.parametrize(
    ("shape", "itemsize"), [((10**6,), 8), ((10**5, 500), 4), ((300, 42, 96), 8), ((3, 1), 8)]
)
def test_chunks_fit_in_the_array_and_in_a_quarter_mebibyte(shape, itemsize):
    chunks = chunk_shape(shape, itemsize)
    assert all(0 < c <= n for c, n in zip(chunks, shape, strict=True))
    assert np.prod(chunks) * itemsize <= 2**18


def test_spikes_hold_groups_of_their_own(tmp_path):
    writer = RecordingWriter(tmp_path / "run.h5")
    writer.set_axis("param", {"param": ["a", "b"], "numel": [4, 4]})
    writer.append("spikes", {"event": [7], "spike_reason": [2]})
    writer.append("spikes/gradients", {"step": [6, 7], "grad_norm": [[1.0, 2.0], [3.0, 4.0]]})
    for _ in range(2):
        writer.flush(wait=True)
        spikes = open_recording(writer.path)["spikes"]
        assert spikes["spike_reason"].sel(event=7) == 2
        assert spikes["gradients/grad_norm"].values.tolist() == [[1, 2], [3, 4]]
        assert spikes["gradients/grad_rms"].values.tolist() == [[0.5, 1], [1.5, 2]]
        writer.close()
