"""The environment that all pages are rendered in."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import jinja2


@cache
def _environment() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def render(template: str, **values: Any) -> str:
    """A page from a template of this package; text is escaped, and a value that is missing is an error.

    Args:
        template: File name, e.g. ``run.html.j2``.
        values: Values of the template's variables.
    """
    return _environment().get_template(template).render(**values)
