"""Estimators and tests for a few seeds, on NumPy arrays; `labelled` takes xarray's."""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
