from .base import AbstractMetric, Figure, Measurement, TrackRow
from .per_clip import summed
from .psnr import UnmaskedPSNR

__all__ = [
    "AbstractMetric",
    "Figure",
    "Measurement",
    "TrackRow",
    "UnmaskedPSNR",
    "summed",
]
