"""The walk over a real file, and the report of it; clips of people cut out of videos."""

from pa_lib.pipeline.anonymize_video import AnonymizationPipeline, Outcome, RunSettings, SearchSettings
from pa_lib.pipeline.cut_tracklets import CutOutcome, CutSettings, TrackletCutter
from pa_lib.reports.run_record import RunReport

__all__ = [
    "AnonymizationPipeline",
    "CutOutcome",
    "CutSettings",
    "Outcome",
    "RunReport",
    "RunSettings",
    "SearchSettings",
    "TrackletCutter",
]
