from .base import AbstractMetric, Figure, Measurement, TrackRow
from .fvd import FewClipsWarning, FrechetVideoDistance
from .kvd import KernelVideoDistance
from .per_clip import summed
from .perceptual import UnmaskedLPIPS
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
    "UnmaskedLPIPS",
    "UnmaskedPSNR",
    "UnmaskedSSIM",
    "summed",
]
