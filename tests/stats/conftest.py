"""How far a simulated rejection rate may lie from its level."""

import pytest
from scipy import stats


@pytest.fixture
def within_binomial():
    """Does a count agree with n trials at a rate, at the 99.9 % level of the binomial?"""

    def check(count, n, rate):
        low, high = stats.binom.ppf([0.0005, 0.9995], n, rate)
        return low <= count <= high

    return check
