from .bank import Double, DoubleBank, View
from .casting import cast
from .index import DoubleEntry, Expression, ViewEntry
from .rendering import footprint, pose_of_view, render, render_head

__all__ = [
    "Double",
    "DoubleBank",
    "DoubleEntry",
    "Expression",
    "View",
    "ViewEntry",
    "cast",
    "footprint",
    "pose_of_view",
    "render",
    "render_head",
]
