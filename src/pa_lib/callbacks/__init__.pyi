from .average import ExponentialAverage
from .checkpoints import ConfigInCheckpoint, LastCheckpoint
from .evaluator import Evaluator
from .nan_guard import NanGuard
from .preview import Preview
from .progress import Progress
from .random_state import RandomState
from .training_monitor import TrainingMonitor

__all__ = [
    "ConfigInCheckpoint",
    "Evaluator",
    "ExponentialAverage",
    "LastCheckpoint",
    "NanGuard",
    "Preview",
    "Progress",
    "RandomState",
    "TrainingMonitor",
]
