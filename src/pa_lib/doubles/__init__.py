"""Doubles: photographic heads of people who do not exist, and who in a video gets which.

Nothing is imported until a name is used.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
