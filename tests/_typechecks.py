"""How annotations are checked while the tests run: by beartype, through the import hook of jaxtyping.

Called by ``--jaxtyping-packages=pa_lib,_typechecks.checked`` in pyproject.toml.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self, get_args

from beartype import BeartypeConf, beartype

_CONF = BeartypeConf(is_pep484_tower=True)  # an int is a float, as mypy has it


def checked(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function with its arguments and its result checked.

    `Self` is passed over: jaxtyping hands over functions one by one, outside their class.
    """
    for name, hint in function.__annotations__.items():
        if hint is Self or Self in get_args(hint):
            function.__annotations__[name] = Any
    return beartype(conf=_CONF)(function)
