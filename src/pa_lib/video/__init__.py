"""Files to frames and back, lazily, in constant memory. Nothing else touches codecs."""

from pa_lib.video.container import Limits
from pa_lib.video.deinterlace import deinterlacing
from pa_lib.video.files import find_inputs, is_supported, passed_over, result_stem, stem_of
from pa_lib.video.frame import Frame, Picture, PixelFormat, redacted_picture
from pa_lib.video.info import VideoInfo
from pa_lib.video.probe import fingerprint, probe
from pa_lib.video.read import read_frames
from pa_lib.video.result_folders import MadeFolders, StagedResults
from pa_lib.video.sinks import WriteSettings
from pa_lib.video.staging import StagedFile, StagedFolder, check_writable, commit_together, is_taken, write_whole
from pa_lib.video.write import VideoWriter, check_output, default_output

__all__ = [
    "Frame",
    "Limits",
    "MadeFolders",
    "Picture",
    "PixelFormat",
    "StagedFile",
    "StagedFolder",
    "StagedResults",
    "VideoInfo",
    "VideoWriter",
    "WriteSettings",
    "check_output",
    "check_writable",
    "commit_together",
    "default_output",
    "deinterlacing",
    "find_inputs",
    "fingerprint",
    "is_supported",
    "is_taken",
    "passed_over",
    "probe",
    "read_frames",
    "redacted_picture",
    "result_stem",
    "stem_of",
    "write_whole",
]
