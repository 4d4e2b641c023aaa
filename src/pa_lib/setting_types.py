"""Settings of a wrong type, found by the annotations of what takes them, and the one rule for seeds.

A part that is called late (an optimizer gets its parameters when training begins) would otherwise answer a text in the
place of a number with Python's own words, long after the command line.
"""

from __future__ import annotations

import functools
import inspect
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Unpack, get_args, get_origin, get_type_hints, is_typeddict

from pa_lib.errors import SettingError

MOST_SEED = 2**32 - 1
"""The largest seed: every generator that the library and Lightning use takes it whole."""


def checked_seed(seed: object, name: str = "seed") -> int:
    """A seed, if it is one: a whole number from 0 to `MOST_SEED`.

    Args:
        seed: The value that was given.
        name: Name of the setting.

    Raises:
        SettingError: It is anything else, a bool included.

    >>> checked_seed(7)
    7
    """
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed <= MOST_SEED:
        raise SettingError(f"{name}: got {seed!r}, expected a whole number from 0 to {MOST_SEED}, e.g. 0")
    return seed


def checked_names(names: object, where: str) -> tuple[str, ...]:
    """Names as a tuple. A single text, whose letters would count as names, is refused.

    Args:
        names: The value that was given.
        where: The setting in errors.

    Raises:
        SettingError: It is no sequence of texts.

    >>> checked_names(["adapter", "temporal"], "slots")
    ('adapter', 'temporal')
    """
    if isinstance(names, str) or not isinstance(names, Sequence) or not all(isinstance(name, str) for name in names):
        example = f", e.g. [{names}]" if isinstance(names, str) else ""
        raise SettingError(f"{where}: got {names!r}, expected a list of names{example}")
    return tuple(names)


def check_arguments(made: type, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
    """Refuse constructor arguments that are plain values of a wrong type.

    Args:
        made: The class that is constructed.
        args: Positional arguments.
        kwargs: Named arguments.

    Raises:
        SettingError: Names the class, the argument, what it is and what its annotation expects.
    """
    try:
        given = inspect.signature(made.__init__).bind_partial(None, *args, **kwargs).arguments  # type: ignore[misc]
    except (TypeError, ValueError):  # an unknown argument, which Python itself refuses
        return
    named = {name: value for name, value in given.items() if name not in kwargs}
    for name, text in wrong_types(made, {**named, **kwargs}, with_choices=False):
        raise SettingError(f"{made.__name__}.{name}: {text}")


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


def wrong_types(
    make: Callable[..., Any], settings: Mapping[str, Any], *, with_choices: bool = True
) -> Iterator[tuple[str, str]]:
    """The settings whose plain values are not what a function's or class's annotations say: name, and what is wrong.

    Values that are no plain data, parts with a ``_target_`` and settings without a usable annotation pass. A whole
    number may stand for any number and a list for a tuple, but a text for neither.

    Args:
        make: Function or class that takes the settings.
        settings: Settings by name.
        with_choices: Whether a value that is none of the choices of a ``Literal`` counts; constructors refuse it too.
    """
    known = annotations_of(make)
    for name, value in settings.items():
        if name not in known or _holds_parts(value):
            continue
        annotation, default = known[name]
        if expected := _expected(annotation, value, () if with_choices else ("literal_error",)):
            example = default if isinstance(default, bool | int | float | str) else None
            yield name, f"got {value!r}, expected {expected}" + ("" if example is None else f", e.g. {example}")


@functools.cache
def annotations_of(make: Callable[..., Any]) -> dict[str, tuple[Any, Any]]:
    """Parameter -> its annotation and default, those that a constructor passes on to its bases included."""
    known: dict[str, tuple[Any, Any]] = {}
    classes = reversed(make.__mro__) if inspect.isclass(make) else ()
    for function in [vars(one)["__init__"] for one in classes if "__init__" in vars(one)] or [make]:
        try:
            hints = get_type_hints(function)
            parameters = inspect.signature(function).parameters
        except (TypeError, ValueError, NameError):  # no signature, or names that exist only for a type checker
            continue
        for name, parameter in parameters.items():
            if name not in hints or parameter.kind is parameter.VAR_POSITIONAL:
                continue
            if parameter.kind is not parameter.VAR_KEYWORD:
                known[name] = (hints[name], parameter.default)
            elif get_origin(hints[name]) is Unpack and is_typeddict(settings := get_args(hints[name])[0]):
                known |= {each: (hint, None) for each, hint in get_type_hints(settings).items() if each not in known}
    return known


def _holds_parts(value: Any) -> bool:
    if isinstance(value, Mapping):
        return "_target_" in value or any(map(_holds_parts, value.values()))
    return isinstance(value, list | tuple) and any(map(_holds_parts, value))


def _expected(annotation: Any, value: Any, ignored: Sequence[str]) -> str:
    """What an annotation expects where a value is something else; empty where it fits or cannot be compared."""
    from pydantic import ConfigDict, TypeAdapter, ValidationError
    from pydantic.errors import PydanticUserError

    try:
        text = json.dumps(value)
        adapter: TypeAdapter[Any] = TypeAdapter(annotation, config=ConfigDict(arbitrary_types_allowed=True))
    except (TypeError, ValueError, NameError, PydanticUserError):
        return ""
    try:
        # Not strict where there is no text: 100.0 is a number of steps. True is none.
        adapter.validate_json(text, strict='"' in text or isinstance(value, bool))
    except ValidationError as error:
        # Of a union with a class, such as a tensor, the plain types are what a config can give. A mapping in the place
        # of a dataclass is refused by what takes it.
        passing = ("needs_python_object", *ignored)
        fields = [one for one in error.errors() if one["type"] == "missing" and isinstance(one["loc"][-1], str)]
        messages = [one["msg"] for one in error.errors() if one["type"] not in passing and one not in fields]
        wanted = dict.fromkeys(message.removeprefix("Input should be ") for message in messages)
        return " or ".join("a list" if one == "a valid array" else one for one in wanted)
    return ""
