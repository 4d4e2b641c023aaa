"""What pa_lib raises: one class per kind of failure, each a message of one line."""

from __future__ import annotations


class PaLibError(Exception):
    """A failure that the user can fix. The message is one line: what was got, what was expected, and what to do."""
