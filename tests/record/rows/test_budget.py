"""A budget with a clock of its own: what it chooses follows from the seconds that were spent."""

from __future__ import annotations

import itertools

import pytest

from gradscope.record.rows.budget import BLOCK, MAX_K, N_BLOCKS, WARM_UP, Budget, check_share
from gradscope.record.rows.cadence import auto

TRIAL = WARM_UP + BLOCK * N_BLOCKS


class Training:
    """Rounds that take ``bare`` seconds, and more where they are recorded."""

    def __init__(self, share, *, bare=1.0, host=0.0, device=0.0, looking=0.0):
        self.now = 100.0
        self.bare, self.host, self.device, self.looking = bare, host, device, looking
        self.budget = Budget(share, auto, clock=lambda: self.now)
        self.recorded: list[int] = []
        self.extra = 0.0

    def run(self, n_rounds, first=1, rows=1):
        for round_ in range(first, first + n_rounds):
            is_recorded = self.budget(round_)
            assert self.budget(round_) == is_recorded  # asked twice, as the clock does
            if is_recorded:
                self.recorded.append(round_)
            for _ in range(rows):
                host = (self.looking + self.host * is_recorded) / rows
                self.now += self.bare / rows + host + self.device * is_recorded / rows
                self.extra += host + self.device * is_recorded / rows
                self.budget.note(round_, host)
        return self


@pytest.mark.parametrize(
    ("costs", "share", "thinning"),
    [
        ({"host": 0.015}, 0.02, 1),
        ({"host": 0.05}, 0.02, 4),  # 0.05 / 2 = 0.025 is still too much
        ({"host": 0.05, "looking": 0.01}, 0.02, 8),  # 0.05 / 4 + 0.01 is still too much
        ({"device": 0.3}, 0.02, 16),  # not seen by the host's clock
        ({"host": 0.1, "device": 0.2}, 0.05, 8),
    ],
)
def test_one_in_k_rounds_is_recorded_and_the_cost_stays_below(costs, share, thinning):
    training = Training(share, **costs).run(TRIAL)
    assert training.budget.thinning == thinning
    training.recorded, training.extra = [], 0.0
    training.run(1000 - TRIAL, first=TRIAL + 1)
    assert set(_gaps(training.recorded)) == {thinning}
    assert training.extra <= share * (1000 - TRIAL) * training.bare * 1.02
    assert training.budget.attributes == {"max_overhead": share, "thinning": thinning}


def _gaps(numbers):
    return [b - a for a, b in itertools.pairwise(numbers)]


def test_the_trial_alternates_after_the_warm_up():
    recorded = Training(0.02, host=0.1).run(TRIAL).recorded
    blocks = [r for b in range(0, N_BLOCKS, 2) for r in range(BLOCK * b, BLOCK * (b + 1))]
    assert recorded == [*range(1, WARM_UP + 1), *(WARM_UP + 1 + r for r in blocks)]


def test_a_budget_that_looking_alone_exceeds_is_said_aloud():
    training = Training(0.02, host=0.05, looking=0.03)
    with pytest.warns(RuntimeWarning, match=r"hooks alone cost 3\.0%.*one in 1024 steps"):
        training.run(TRIAL)
    assert training.budget.thinning == MAX_K


def test_rounds_of_several_rows_and_a_resumed_count():
    training = Training(0.02, host=0.05).run(TRIAL, first=5001, rows=2)
    assert training.budget.thinning == 4


def test_a_run_that_ends_within_the_trial_has_fixed_nothing():
    training = Training(0.02, host=0.05).run(TRIAL - 1)
    assert training.budget.attributes == {"max_overhead": 0.02}


@pytest.mark.parametrize("share", [0, -0.1, 1.5, float("nan")])
def test_a_share_that_is_none_is_refused(share):
    with pytest.raises(ValueError, match="above 0 and at most 1"):
        check_share(share)


@pytest.mark.parametrize("share", ["2%", None, True])
def test_a_share_must_be_a_number(share):
    with pytest.raises(TypeError, match=r"such as 0\.02"):
        check_share(share)
