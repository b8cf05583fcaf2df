import dataclasses
import json
from typing import Any

import numpy as np
import pytest

from gradscope.stats.result import Result
from gradscope.stats.sample import finite_sample, paired
from gradscope.stats.tests.sign_flip import sign_flip
from gradscope.stats.tests.tost import tost


def test_results_are_json_without_special_numbers():
    # Three units: the interval is infinite, and JSON knows no infinity.
    kept = json.loads(json.dumps(sign_flip([1, 2, 3]).as_dict(), allow_nan=False))
    assert kept["low"] == "-inf"
    assert kept["is_exact"] is True
    assert (
        json.loads(json.dumps(Result(method="m", quantity="q", estimate=1.0, n=2).as_dict()))[
            "p_value"
        ]
        is None
    )


def test_results_are_frozen():
    result: Any = sign_flip([1, 2, 3])
    with pytest.raises(dataclasses.FrozenInstanceError):
        result.n = 4


def test_table_names_effect_interval_p_n_and_extras():
    lines = str(tost([-2, -1, 0, 1, 2], margin=2)).splitlines()
    assert lines[0] == "two one-sided t tests (equivalence)"
    assert [line.split()[0] for line in lines[1:5]] == ["effect", "interval", "p", "n"]
    assert lines[5].split() == ["margin", "2"]


def test_samples_say_what_is_wrong():
    with pytest.raises(ValueError, match="`x` must be finite; got 1 nan or infinite of 2"):
        finite_sample([1.0, np.nan], "x")
    with pytest.raises(ValueError, match="`x` needs at least 3 values; got 2"):
        finite_sample([1.0, 2.0], "x", minimum=3)
    with pytest.raises(ValueError, match=r"1 dimension\(s\); got shape \(1, 2\)"):
        finite_sample([[1.0, 2.0]], "x")
    with pytest.raises(ValueError, match="as long as each other; got 2 and 3"):
        paired([1, 2], [1, 2, 3], ("y", "x"), minimum=2)
    with pytest.raises(ValueError, match="did you mean 'greater'"):
        sign_flip([1, 2, 3], alternative="great")
    with pytest.raises(ValueError, match="`confidence` must lie between 0 and 1; got 95"):
        sign_flip([1, 2, 3], confidence=95)
