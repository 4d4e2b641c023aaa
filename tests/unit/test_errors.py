"""One class per kind of failure, and the words that errors share."""

from __future__ import annotations

import pytest

import pa_lib
from pa_lib.errors import first_line, listed


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("one\ntwo"), "one"),
        (ValueError("\n  two"), "two"),
        (ValueError(), "ValueError"),
        (ValueError(" \n "), "ValueError"),
        (EOFError(), "EOFError"),
    ],
)
def test_first_line_is_never_empty(error: Exception, line: str) -> None:
    assert first_line(error) == line


def test_long_lists_are_cut() -> None:
    assert listed([]) == ""
    assert listed(["a", "b", "c"]) == "a, b, c"
    assert listed(["a", "b", "c", "d"]) == "a, b, c and 1 more"
    assert listed(range(7), most=2) == "0, 1 and 5 more"
    assert listed(name for name in "abcdefg") == "a, b, c and 4 more"


def test_every_error_is_one_that_can_be_caught_together() -> None:
    for kind in (pa_lib.InputError, pa_lib.SettingError, pa_lib.WeightsError, pa_lib.ProtectionError):
        assert issubclass(kind, pa_lib.PaLibError)
    assert issubclass(pa_lib.DamagedInputError, pa_lib.InputError)
    with pytest.raises(ValueError, match="too large"):  # as a caller who knows only Python expects it of an argument
        raise pa_lib.SettingError("too large")
