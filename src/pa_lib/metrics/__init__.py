"""Metrics that carry their protocol: torchmetrics classes over `pa_lib.functional`, one file per metric.

Nothing is imported until a name is used.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
