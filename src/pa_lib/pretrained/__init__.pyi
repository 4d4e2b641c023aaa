from .assets import Asset, asset_manifest, asset_path
from .detectors.centerface import CenterFace
from .detectors.mtcnn import MTCNN
from .detectors.nanodet import NanoDet
from .features.base import AbstractVideoFeatures
from .features.i3d import I3DFeatures
from .features.transnet import TransNetFeatures
from .features.videomae import VideoMAEFeatures
from .identity.face_chips import align_faces
from .identity.face_identity import FaceIdentity
from .identity.facenet import FaceNet
from .optical_flow import AbstractOpticalFlow, DISFlow, RAFTFlow
from .outline.network import OutlineUNet
from .outline.person import PersonOutline
from .perceptual import Perceptual
from .silhouette import SelfieSegmentation

__all__ = [
    "MTCNN",
    "AbstractOpticalFlow",
    "AbstractVideoFeatures",
    "Asset",
    "CenterFace",
    "DISFlow",
    "FaceIdentity",
    "FaceNet",
    "I3DFeatures",
    "NanoDet",
    "OutlineUNet",
    "Perceptual",
    "PersonOutline",
    "RAFTFlow",
    "SelfieSegmentation",
    "TransNetFeatures",
    "VideoMAEFeatures",
    "align_faces",
    "asset_manifest",
    "asset_path",
]
