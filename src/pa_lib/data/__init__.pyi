from .base import AbstractClipSet, AbstractDataModule, Sample, collate
from .sampling import ClipLoader, Draw, GlobalBatchSampler, Position, ResumableLoader, clip_generator
from .synthetic import SyntheticDataModule

__all__ = [
    "AbstractClipSet",
    "AbstractDataModule",
    "ClipLoader",
    "Draw",
    "GlobalBatchSampler",
    "Position",
    "ResumableLoader",
    "Sample",
    "SyntheticDataModule",
    "clip_generator",
    "collate",
]
