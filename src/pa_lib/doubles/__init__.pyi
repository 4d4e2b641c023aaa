from .bank import Double, DoubleBank, View
from .casting import cast
from .index import DoubleEntry, Expression, ViewEntry

__all__ = ["Double", "DoubleBank", "DoubleEntry", "Expression", "View", "ViewEntry", "cast"]
