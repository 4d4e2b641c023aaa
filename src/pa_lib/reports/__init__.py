"""Records and pages: runs, evaluations and comparisons. Nothing is imported until it is used."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
