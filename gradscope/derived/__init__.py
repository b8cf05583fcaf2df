"""Quantities computed from recorded ones, health rules and comparisons of runs."""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
