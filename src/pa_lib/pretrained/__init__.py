"""Networks whose weights come from elsewhere: numpy or torch in, arrays out. Imported at first use."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
