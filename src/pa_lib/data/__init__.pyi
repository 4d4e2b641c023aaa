from .augment import ClipAugmentation
from .base import AbstractClipSet, AbstractDataModule, Sample, collate
from .faces import FaceDataModule, FacePhoto
from .identity_sampling import IdentityBatchSampler
from .joint import JointDataModule
from .outlines import OutlineDataModule
from .references import PortraitReference
from .sampling import ClipLoader, Draw, GlobalBatchSampler, Position, ResumableLoader, clip_generator
from .synthetic import SyntheticDataModule
from .tracklets import TrackletDataModule

__all__ = [
    "AbstractClipSet",
    "AbstractDataModule",
    "ClipAugmentation",
    "ClipLoader",
    "Draw",
    "FaceDataModule",
    "FacePhoto",
    "GlobalBatchSampler",
    "IdentityBatchSampler",
    "JointDataModule",
    "OutlineDataModule",
    "PortraitReference",
    "Position",
    "ResumableLoader",
    "Sample",
    "SyntheticDataModule",
    "TrackletDataModule",
    "clip_generator",
    "collate",
]
