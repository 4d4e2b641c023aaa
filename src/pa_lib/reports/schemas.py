"""The JSON Schemas of all records that this package writes."""

from __future__ import annotations

from typing import Any

from pa_lib.reports import comparison, evaluation_record, run_record
from pa_lib.reports.json import json_schema


def json_schemas() -> dict[str, dict[str, Any]]:
    """JSON Schemas (draft 2020-12) by the name that a file gives as its ``schema``.

    >>> sorted(json_schemas())
    ['pa_lib.comparison', 'pa_lib.metrics', 'pa_lib.report']
    """
    records = (
        (comparison.Comparison, comparison),
        (evaluation_record.Evaluation, evaluation_record),
        (run_record.RunReport, run_record),
    )
    return {of.SCHEMA: json_schema(record, of.SCHEMA, of.SCHEMA_VERSION) for record, of in records}
