"""Callbacks of a training run: checkpoints, averages of weights, previews, guards. Imported at first use."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
