"""Check, finish and export recordings; reading them is `gradscope.open_recording`."""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
