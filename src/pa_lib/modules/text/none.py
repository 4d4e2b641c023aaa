"""No text at all, for backbones that take none."""

from __future__ import annotations

from collections.abc import Sequence

from pa_lib.modules.text.base import AbstractText


class NoText(AbstractText):
    """Prompts are not read.

    >>> NoText()(["a person is walking"]) is None
    True
    """

    width = None

    def forward(self, prompts: Sequence[str]) -> None:
        """None, whatever the prompts are."""
        return
