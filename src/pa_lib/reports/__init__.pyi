from .columns import Column
from .comparison import ColumnValue, Comparison, Row, compare
from .contact_sheet import ContactSheets, SheetClip, SheetSettings, contact_sheet
from .evaluation_page import render_comparison, render_evaluation, write_comparison, write_evaluation
from .evaluation_record import Evaluation, MeasuredClip, MeasuredFile, MetricRecord, TrackSummary, rank_tracks
from .found import evaluations_in
from .frame_log import FrameLog, FrameRecord
from .run_page import write_run_page
from .run_record import PersonRecord, RunReport, SourceRecord, TrackRecord, people_records
from .schemas import json_schemas
from .tables import comparison_csv, comparison_latex, comparison_markdown
from .thumbnails import Thumbnail, ThumbnailCollector

__all__ = [
    "Column",
    "ColumnValue",
    "Comparison",
    "ContactSheets",
    "Evaluation",
    "FrameLog",
    "FrameRecord",
    "MeasuredClip",
    "MeasuredFile",
    "MetricRecord",
    "PersonRecord",
    "Row",
    "RunReport",
    "SheetClip",
    "SheetSettings",
    "SourceRecord",
    "Thumbnail",
    "ThumbnailCollector",
    "TrackRecord",
    "TrackSummary",
    "compare",
    "comparison_csv",
    "comparison_latex",
    "comparison_markdown",
    "contact_sheet",
    "evaluations_in",
    "json_schemas",
    "people_records",
    "rank_tracks",
    "render_comparison",
    "render_evaluation",
    "write_comparison",
    "write_evaluation",
    "write_run_page",
]
