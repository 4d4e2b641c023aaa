"""How annotations are checked while the tests run: by beartype, through the import hook of jaxtyping.

Called by ``--jaxtyping-packages=pa_lib,_typechecks.checked`` in pyproject.toml.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self, get_args

from beartype import BeartypeConf, beartype

_CONF = BeartypeConf(is_pep484_tower=True)  # an int is a float, as mypy has it


def checked(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function with its arguments and its result checked, but for hints that cannot be at run time."""
    for name, hint in function.__annotations__.items():
        if not _is_checkable(hint):
            function.__annotations__[name] = Any
    return beartype(conf=_CONF)(function)


def _is_checkable(hint: object) -> bool:
    """No for `Self`, since jaxtyping hands over functions outside their class, and for protocols of mypy alone."""
    if hint is Self or (getattr(hint, "_is_protocol", False) and not getattr(hint, "_is_runtime_protocol", False)):
        return False
    return all(_is_checkable(part) for part in get_args(hint))
