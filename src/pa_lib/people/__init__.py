"""Who is in the video: find, track, link, choose, mask; and the tracks file that records all of it.

Nothing is imported until a name is used.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
