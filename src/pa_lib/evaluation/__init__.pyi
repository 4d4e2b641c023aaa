from .attack import AttackOnFaces, anonymized_photos, face_photos, run_attack
from .clips import module_results
from .maskers import Maskers
from .memorization import MemorizationOnFaces
from .pairs import ClipPair, pair_clips
from .run import evaluate
from .shard import AbstractSource, Shard
from .sources import FilePairs, ModuleOnClips, ModuleOnVideos
from .videos import OpenedPair, composited_results

__all__ = [
    "AbstractSource",
    "AttackOnFaces",
    "ClipPair",
    "FilePairs",
    "Maskers",
    "MemorizationOnFaces",
    "ModuleOnClips",
    "ModuleOnVideos",
    "OpenedPair",
    "Shard",
    "anonymized_photos",
    "composited_results",
    "evaluate",
    "face_photos",
    "module_results",
    "pair_clips",
    "run_attack",
]
