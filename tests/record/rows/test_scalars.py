"""Numbers of a row that are kept on a device, and those for which there is no room."""

from __future__ import annotations

import numpy as np
import torch

from gradscope.record.rows import scalars


def test_numbers_beyond_the_room_on_the_device_are_kept_on_the_host(monkeypatch):
    monkeypatch.setattr(scalars, "MAX_TENSORS", 3)
    rows = scalars.ScalarRows(4, torch.device("cpu"))
    for step in (1, 2):
        rows.open_row(step)
        rows.set("loss", 0.5 * step)
        lr = [torch.tensor(step + 0.1 * group) for group in range(5)]  # as of capturable optimizers
        rows.set_groups("lr", lr)
    values, _ = rows.take(2).read()
    assert values["loss"].tolist() == [0.5, 1.0]
    expected = [[step + 0.1 * group for group in range(5)] for step in (1, 2)]
    np.testing.assert_allclose(values["lr"], expected, rtol=1e-6)
