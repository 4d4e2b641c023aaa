"""Settings of a wrong type, found by the annotations of what takes them.

A part that is called late (an optimizer gets its parameters when training begins) would otherwise answer a text in the
place of a number with Python's own words, long after the command line.
"""

from __future__ import annotations

import functools
import inspect
import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any, get_type_hints

from pa_lib.errors import SettingError


def check_partial(make: object, where: str) -> None:
    """Refuse a ``functools.partial`` that holds a value of a wrong type; any other function passes.

    Args:
        make: The function, before it is called.
        where: Place of its settings in the config, e.g. ``module.optimizer``.

    Raises:
        SettingError: Names the setting, what it is and what its annotation expects.

    >>> check_partial(functools.partial(json.JSONEncoder, skipkeys="x"), "a")  # without annotations
    """
    if isinstance(make, functools.partial):
        for name, text in wrong_types(make.func, make.keywords):
            raise SettingError(f"{where}.{name}: {text}")


def wrong_types(make: Callable[..., Any], settings: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The settings whose plain values are not what a function's or class's annotations say: name, and what is wrong.

    Values that are no plain data, parts with a ``_target_`` and settings without a usable annotation pass. A whole
    number may stand for any number and a list for a tuple, but a text for neither.
    """
    parameters: dict[str, inspect.Parameter] = {}
    hints: dict[str, Any] = {}
    # A constructor may pass settings on to those of its bases.
    classes = reversed(make.__mro__) if inspect.isclass(make) else ()
    for function in [vars(one)["__init__"] for one in classes if "__init__" in vars(one)] or [make]:
        try:
            hints |= get_type_hints(function)
            parameters |= inspect.signature(function).parameters
        except (TypeError, ValueError, NameError):  # no signature, or names that exist only for a type checker
            continue
    for name, value in settings.items():
        if name not in hints or name not in parameters or _holds_parts(value):
            continue
        if expected := _expected(hints[name], value):
            default = parameters[name].default
            example = default if isinstance(default, bool | int | float | str) else None
            yield name, f"got {value!r}, expected {expected}" + ("" if example is None else f", e.g. {example}")


def _holds_parts(value: Any) -> bool:
    if isinstance(value, Mapping):
        return "_target_" in value or any(map(_holds_parts, value.values()))
    return isinstance(value, list | tuple) and any(map(_holds_parts, value))


def _expected(annotation: Any, value: Any) -> str:
    """What an annotation expects where a value is something else; empty where it fits or cannot be compared."""
    from pydantic import ConfigDict, TypeAdapter, ValidationError
    from pydantic.errors import PydanticUserError

    try:
        text = json.dumps(value)
        adapter: TypeAdapter[Any] = TypeAdapter(annotation, config=ConfigDict(arbitrary_types_allowed=True))
    except (TypeError, ValueError, NameError, PydanticUserError):
        return ""
    try:
        # Not strict where there is no text: 100.0 is a number of steps.
        adapter.validate_json(text, strict='"' in text)
    except ValidationError as error:
        # Of a union with a class, such as a tensor, the plain types are what a config can give.
        messages = [one["msg"] for one in error.errors() if one["type"] != "needs_python_object"]
        return " or ".join(dict.fromkeys(message.removeprefix("Input should be ") for message in messages))
    return ""
