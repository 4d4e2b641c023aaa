from .base import AbstractMetric, Figure, Measurement, TrackRow
from .body_reid import BodyReidentificationRate
from .detection import DetectionRate
from .faces import FaceComparer, FacePairs
from .frechet_identity import FrechetIdentityDistance
from .fvd import FewClipsWarning, FrechetVideoDistance
from .identity import IdentityDistance
from .kvd import KernelVideoDistance
from .per_clip import summed
from .perceptual import UnmaskedLPIPS
from .psnr import UnmaskedPSNR
from .reid import ReidentificationRate
from .ssim import UnmaskedSSIM
from .warping_error import TemporalWarpingError

__all__ = [
    "AbstractMetric",
    "BodyReidentificationRate",
    "DetectionRate",
    "FaceComparer",
    "FacePairs",
    "FewClipsWarning",
    "Figure",
    "FrechetIdentityDistance",
    "FrechetVideoDistance",
    "IdentityDistance",
    "KernelVideoDistance",
    "Measurement",
    "ReidentificationRate",
    "TemporalWarpingError",
    "TrackRow",
    "UnmaskedLPIPS",
    "UnmaskedPSNR",
    "UnmaskedSSIM",
    "summed",
]
