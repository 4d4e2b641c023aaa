"""The walk over a real file, and the report of it."""

from pa_lib.pipeline.anonymize_video import AnonymizationPipeline, Outcome, RunSettings, SearchSettings
from pa_lib.pipeline.report import RunReport

__all__ = ["AnonymizationPipeline", "Outcome", "RunReport", "RunSettings", "SearchSettings"]
