"""The page of a run: numbers turned into what the template draws."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import jinja2

from pa_lib.pipeline.thumbnails import Thumbnail

if TYPE_CHECKING:
    from pa_lib.pipeline.report import RunReport


def render(report: RunReport, thumbnails: Sequence[Thumbnail]) -> str:
    """The whole page as text."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("pa_lib.pipeline", "."), autoescape=True, undefined=jinja2.StrictUndefined
    )
    return environment.get_template("report.html.j2").render(report=report, thumbnails=thumbnails)
