"""From a video file to an anonymized one, with its report; from a video to training clips of the people in it."""

from pa_lib.pipeline.anonymize_video import AnonymizationPipeline
from pa_lib.pipeline.cut_tracklets import CutOutcome, CutSettings, TrackletCutter
from pa_lib.pipeline.passes import SearchSettings
from pa_lib.pipeline.run import RunOutcome, RunSettings, SearchedVideo
from pa_lib.reports.run_record import RunReport

__all__ = [
    "AnonymizationPipeline",
    "CutOutcome",
    "CutSettings",
    "RunOutcome",
    "RunReport",
    "RunSettings",
    "SearchSettings",
    "SearchedVideo",
    "TrackletCutter",
]
