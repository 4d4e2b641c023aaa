"""What may stand at a place of a config: the classes that the annotation of the argument there names.

A public name is no permission by itself. A function that writes files is public, and so are data modules and trackers;
where a masker is meant, none of them may be made, not even to look at what it is afterwards.
"""

from __future__ import annotations

import collections.abc
import inspect
import types
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Union, cast, get_args, get_origin

_FUNCTION = cast(type, collections.abc.Callable)  # objects that can be called


@dataclass(frozen=True)
class Role:
    """The classes that are meant at a place.

    Args:
        made: Classes of which an object is meant.
        called: Classes of which a function is meant that makes an object: what a partial may make.
        is_open: Whether any class is meant.
    """

    made: tuple[type, ...] = ()
    called: tuple[type, ...] = ()
    is_open: bool = False

    def allows(self, part: type, *, is_partial: bool = False) -> bool:
        """Whether an object of a class, or a partial of the class, is meant."""
        return self.is_open or any(_is_kind(part, one) for one in (self.called if is_partial else self.made))

    def __str__(self) -> str:
        names = dict.fromkeys(one.__name__ for one in (*self.made, *self.called) if one is not _FUNCTION)
        return " or ".join(names)


ANY = Role(is_open=True)


def role_of(annotation: Any) -> Role:
    """The role that an annotation describes. Lists and mappings stand for what is in them, plain values for nothing.

    >>> role_of(collections.abc.Sequence[Role] | str | None).allows(Role)
    True
    >>> role_of(int).allows(Role), role_of(Any).allows(Role)
    (False, True)
    """
    if isinstance(annotation, Role):
        return annotation
    found = list(_atoms(annotation))
    made = tuple(one for one, is_called in found if not is_called)
    called = tuple(one for one, is_called in found if is_called)
    return Role(made, called, is_open=annotation is Any)


def _atoms(annotation: Any, *, is_called: bool = False) -> Iterator[tuple[type, bool]]:
    """The classes in an annotation, and whether a function that makes them is meant."""
    origin = get_origin(annotation)
    if origin is Annotated:
        annotation = get_args(annotation)[0]
        origin = get_origin(annotation)
    if origin is collections.abc.Callable:
        *_, returned = get_args(annotation)
        yield from _atoms(returned, is_called=True)
        if not is_called:
            yield _FUNCTION, False
    elif origin is Literal:
        return
    elif origin in (Union, types.UnionType) or (origin is not None and _is_plain(origin)):
        for one in get_args(annotation):
            yield from _atoms(one, is_called=is_called)
    elif inspect.isclass(origin or annotation) and not _is_plain(origin or annotation):
        yield origin or annotation, is_called


def _is_plain(kind: Any) -> bool:
    """Whether a class is one of Python's own, whose values are data and containers of it."""
    return getattr(kind, "__module__", "") in ("builtins", "collections.abc", "typing", "pathlib")


def _is_kind(part: type, kind: type) -> bool:
    if not getattr(kind, "_is_protocol", False):
        return issubclass(part, kind)
    methods = [
        name
        for base in kind.__mro__
        if getattr(base, "_is_protocol", False)
        for name, value in vars(base).items()
        if inspect.isfunction(value) and (name == "__call__" or not name.startswith("_"))
    ]
    return bool(methods) and all(callable(getattr(part, name, None)) for name in methods)
