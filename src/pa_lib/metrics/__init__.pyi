from .base import AbstractMetric, Figure, Measurement, TrackRow
from .fvd import FewClipsWarning, FrechetVideoDistance
from .kvd import KernelVideoDistance
from .per_clip import summed
from .psnr import UnmaskedPSNR
from .ssim import UnmaskedSSIM

__all__ = [
    "AbstractMetric",
    "FewClipsWarning",
    "Figure",
    "FrechetVideoDistance",
    "KernelVideoDistance",
    "Measurement",
    "TrackRow",
    "UnmaskedPSNR",
    "UnmaskedSSIM",
    "summed",
]
