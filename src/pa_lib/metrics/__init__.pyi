from .base import AbstractMetric, Measurement, MetricValue, TrackRow
from .body_reid import BodyReidentificationRate
from .faces.comparer import FaceComparer, FacePairs
from .faces.detection import DetectionRate
from .faces.frechet_identity import FrechetIdentityDistance
from .faces.identity import IdentityDistance
from .faces.reid import ReidentificationRate
from .pixels.perceptual import UnmaskedLPIPS
from .pixels.psnr import UnmaskedPSNR
from .pixels.ssim import UnmaskedSSIM
from .rows import summed
from .video.fvd import FewClipsWarning, FrechetVideoDistance
from .video.kvd import KernelVideoDistance
from .video.warping_error import TemporalWarpingError

__all__ = [
    "AbstractMetric",
    "BodyReidentificationRate",
    "DetectionRate",
    "FaceComparer",
    "FacePairs",
    "FewClipsWarning",
    "FrechetIdentityDistance",
    "FrechetVideoDistance",
    "IdentityDistance",
    "KernelVideoDistance",
    "Measurement",
    "MetricValue",
    "ReidentificationRate",
    "TemporalWarpingError",
    "TrackRow",
    "UnmaskedLPIPS",
    "UnmaskedPSNR",
    "UnmaskedSSIM",
    "summed",
]
