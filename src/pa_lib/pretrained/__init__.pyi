from .assets import Asset, asset_manifest, asset_path
from .boxes import box_overlaps, non_maximum_suppression
from .centerface import CenterFace
from .face_chips import align_faces
from .face_identity import FaceIdentity
from .facenet import FaceNet
from .i3d import I3DFeatures
from .mtcnn import MTCNN
from .nanodet import NanoDet
from .optical_flow import AbstractOpticalFlow, DISFlow, RAFTFlow
from .perceptual import Perceptual
from .silhouette import SelfieSegmentation
from .transnet import TransNetFeatures
from .video_features import AbstractVideoFeatures
from .videomae import VideoMAEFeatures

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
    "Perceptual",
    "RAFTFlow",
    "SelfieSegmentation",
    "TransNetFeatures",
    "VideoMAEFeatures",
    "align_faces",
    "asset_manifest",
    "asset_path",
    "box_overlaps",
    "non_maximum_suppression",
]
