"""The SMES optimizer, schedules of its exponent, and its update as a pure function."""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
