from .base import AbstractMetric, Figure, Measurement, TrackRow
from .per_clip import summed

__all__ = [
    "AbstractMetric",
    "Figure",
    "Measurement",
    "TrackRow",
    "summed",
]
