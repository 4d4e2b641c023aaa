from .choosers.choose import (
    AbstractChooser,
    Choice,
    HideAll,
    HideAt,
    HideIds,
    KeepAt,
    KeepIds,
    KeepMatching,
    Scene,
)
from .choosers.subject import KeepSubject
from .find import Findings, find_people
from .finders import AbstractFinder, CenterFaceFinder, FacesAndPeopleFinder, MtcnnFinder, PeopleFinder
from .identify import best_faces, embed_people, embed_photos
from .mask import AbstractMasker, BoxMasker, EllipseMasker, SilhouetteMasker
from .tracking.kalman import KalmanTracker
from .tracking.link import link_people
from .tracks.record import TracksRecord, check_source, read_tracks, write_tracks

__all__ = [
    "AbstractChooser",
    "AbstractFinder",
    "AbstractMasker",
    "BoxMasker",
    "CenterFaceFinder",
    "Choice",
    "EllipseMasker",
    "FacesAndPeopleFinder",
    "Findings",
    "HideAll",
    "HideAt",
    "HideIds",
    "KalmanTracker",
    "KeepAt",
    "KeepIds",
    "KeepMatching",
    "KeepSubject",
    "MtcnnFinder",
    "PeopleFinder",
    "Scene",
    "SilhouetteMasker",
    "TracksRecord",
    "best_faces",
    "check_source",
    "embed_people",
    "embed_photos",
    "find_people",
    "link_people",
    "read_tracks",
    "write_tracks",
]
