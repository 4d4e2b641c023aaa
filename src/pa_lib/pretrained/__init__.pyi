from .assets import Asset, asset_manifest, asset_path
from .boxes import box_overlaps, non_maximum_suppression
from .centerface import CenterFace
from .face_chips import align_faces
from .face_identity import FaceIdentity
from .facenet import FaceNet
from .mtcnn import MTCNN
from .nanodet import NanoDet
from .silhouette import SelfieSegmentation

__all__ = [
    "MTCNN",
    "Asset",
    "CenterFace",
    "FaceIdentity",
    "FaceNet",
    "NanoDet",
    "SelfieSegmentation",
    "align_faces",
    "asset_manifest",
    "asset_path",
    "box_overlaps",
    "non_maximum_suppression",
]
