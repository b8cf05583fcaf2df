"""Record how gradients move through a network while it trains; open, draw and test the recording.

Public names stand in ``__init__.pyi``, here and in each room, and are imported when they are first
used (SPEC 1): ``import gradscope`` loads neither torch nor NumPy.
"""

import lazy_loader as _lazy

__version__ = "0.1.0"

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
