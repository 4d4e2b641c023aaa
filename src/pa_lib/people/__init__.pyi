from .choosers.base import AbstractChooser, Choice, Embeddings, VideoTimeline
from .choosers.by_face import KeepEmbedded, KeepMatching
from .choosers.by_id import ChooseByIds, HideIds, KeepIds
from .choosers.by_place import ChooseByPlace, HideAt, KeepAt
from .choosers.everybody import HideAll
from .choosers.subject import KeepSubject
from .find import Findings, find_people
from .finders import AbstractFinder, CenterFaceFinder, FacesAndPeopleFinder, MtcnnFinder, PeopleFinder
from .head_mask import HeadMasker
from .identify import best_faces, embed_people, embed_photos
from .mask import AbstractMasker, BoxMasker, EllipseMasker, FrameMasks, MaskRequest, SilhouetteMasker
from .poses import PoseTrack, head_poses
from .recognize import Appearance, FaceRecognizer, same_people
from .tracking.base import AbstractTracker
from .tracking.kalman import KalmanTracker
from .tracking.link import link_people
from .tracks.record import TracksRecord, check_source, read_tracks, stage_tracks, write_tracks
from .tracks.schema import tracks_schema

__all__ = [
    "AbstractChooser",
    "AbstractFinder",
    "AbstractMasker",
    "AbstractTracker",
    "Appearance",
    "BoxMasker",
    "CenterFaceFinder",
    "Choice",
    "ChooseByIds",
    "ChooseByPlace",
    "EllipseMasker",
    "Embeddings",
    "FaceRecognizer",
    "FacesAndPeopleFinder",
    "Findings",
    "FrameMasks",
    "HeadMasker",
    "HideAll",
    "HideAt",
    "HideIds",
    "KalmanTracker",
    "KeepAt",
    "KeepEmbedded",
    "KeepIds",
    "KeepMatching",
    "KeepSubject",
    "MaskRequest",
    "MtcnnFinder",
    "PeopleFinder",
    "PoseTrack",
    "SilhouetteMasker",
    "TracksRecord",
    "VideoTimeline",
    "best_faces",
    "check_source",
    "embed_people",
    "embed_photos",
    "find_people",
    "head_poses",
    "link_people",
    "read_tracks",
    "same_people",
    "stage_tracks",
    "tracks_schema",
    "write_tracks",
]
