"""What pa_lib raises. Every message is one line: what was got, what was expected, and what to do.

::

    PaLibError                      anything that the user can fix; catch this one
    ├── InputError                  a file or data set is missing or is not what is needed
    │   └── DamagedInputError       it is the right kind, but broken: cut short, unreadable frames
    ├── SettingError (ValueError)   a setting or argument is out of range, unknown, or contradicts another
    ├── WeightsError                weights or checkpoints are missing, damaged, foreign or do not fit
    └── ProtectionError             a frame could not be protected; nothing of it may be written
"""

from __future__ import annotations

from collections.abc import Iterable


class PaLibError(Exception):
    """A failure that the user can fix. The message is one line: what was got, what was expected, and what to do."""


class InputError(PaLibError):
    """A user's file or data set is missing or is not what is needed."""


class DamagedInputError(InputError):
    """A user's file is of the right kind, but broken: cut short, or with frames that cannot be decoded."""


class SettingError(PaLibError, ValueError):
    """A setting or argument is out of range, unknown, or contradicts another one."""


class WeightsError(PaLibError):
    """Weights or a checkpoint are missing, damaged, of another origin, or do not fit the module."""


class ProtectionError(PaLibError):
    """A frame could not be protected, so that nothing of it may be written."""


def first_line(error: BaseException) -> str:
    r"""The first line of an error's message, or the name of its class where it has no message.

    >>> first_line(ValueError("first\nsecond")), first_line(KeyError())
    ('first', 'KeyError')
    """
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def listed(names: Iterable[object], most: int = 3) -> str:
    """Names with commas between them; of a long list only the first ones and how many more there are.

    Args:
        names: The names, in the order in which they are shown.
        most: Number of names that are shown, >= 1.

    >>> listed("abc"), listed("abcdefg"), listed([])
    ('a, b, c', 'a, b, c and 4 more', '')
    """
    shown = [str(name) for name in names]
    rest = len(shown) - most
    return ", ".join(shown[:most]) + (f" and {rest} more" if rest > 0 else "")
