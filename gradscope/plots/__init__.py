"""Pictures of recordings: whole figures, and single kinds drawn into given axes."""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
