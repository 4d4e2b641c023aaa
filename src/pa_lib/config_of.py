"""The config that builds an object again, from the arguments that it was constructed with."""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from pa_lib.errors import SettingError
from pa_lib.targets import public_name


@runtime_checkable
class HasArguments(Protocol):
    """What remembers its constructor's arguments; see `pa_lib.modules.Slot`."""

    maker: Callable[..., Any] | None
    made_with: tuple[tuple[Any, ...], dict[str, Any]]


def config_of(part: object) -> dict[str, Any]:
    """``{"_target_": ..., argument: value}`` for a system or part that was constructed in Python.

    Arguments are those of the construction: attributes that were changed afterwards are not seen. Taken are plain
    values, lists and mappings of them, ``functools.partial`` and classes by their public names, dataclasses, everything
    whose constructor's arguments are remembered (all systems and slots), and other objects that keep each argument in
    an attribute of its name.

    Args:
        part: The part to describe, e.g. a `PassersbyAnonymizer`.

    Returns:
        Plain values only; JSON can hold it.

    Raises:
        SettingError: Names the argument that cannot be written down, and what to give instead.

    >>> from functools import partial
    >>> from torch.optim import AdamW
    >>> from pa_lib.modules import OptimizerSpec
    >>> config = config_of(OptimizerSpec(("adapter",), partial(AdamW, lr=0.1)))
    >>> config["make"]
    {'_target_': 'torch.optim.AdamW', '_partial_': True, 'lr': 0.1}
    """
    return _object(part, type(part).__name__)


def _value(value: Any, where: str) -> Any:
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, list | tuple):
        return [_value(one, f"{where}[{at}]") for at, one in enumerate(value)]
    if isinstance(value, Mapping):
        if odd := [key for key in value if not isinstance(key, str)]:
            raise SettingError(f"{where} cannot be recorded: it has the key {odd[0]!r}, expected text")
        return {key: _value(one, f"{where}.{key}") for key, one in value.items()}
    if isinstance(value, functools.partial):
        named = _arguments(value.func, value.args, value.keywords, where)
        return {"_target_": _target(value.func, where), "_partial_": True} | named
    if inspect.isclass(value) or inspect.isroutine(value):
        return {"_target_": _target(value, where), "_partial_": True}
    return _object(value, where)


def _object(part: object, where: str) -> dict[str, Any]:
    kind = type(part)
    if isinstance(part, HasArguments):
        args, kwargs = part.made_with
        made: Any = part.maker or kind
        return {"_target_": _target(made, where)} | _arguments(made, args, kwargs, where)
    if is_dataclass(part):
        given = {one.name: _value(getattr(part, one.name), f"{where}.{one.name}") for one in fields(part) if one.init}
    elif kind.__module__.partition(".")[0] in ("torch", "diffusers", "transformers", "numpy"):
        raise SettingError(
            f"{where} cannot be recorded: it is a {kind.__name__} that is built already; give its path or its config"
        )
    else:
        given = _attributes(part, where)
    return {"_target_": _target(kind, where)} | given


def _arguments(made: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], where: str) -> dict[str, Any]:
    try:
        names = list(inspect.signature(made).parameters) if args else []
    except ValueError:
        names = []
    if len(args) > len(names):
        raise SettingError(f"{where} cannot be recorded: give the arguments of {made.__name__} by name")
    given = dict(zip(names, args, strict=False)) | dict(kwargs)
    return {name: _value(value, f"{where}.{name}") for name, value in given.items()}


def _attributes(part: object, where: str) -> dict[str, Any]:
    """Of an object that remembers nothing: attributes of the names of its constructor's arguments."""
    found: dict[str, Any] = {}
    for name, parameter in inspect.signature(type(part)).parameters.items():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD) or not hasattr(part, name):
            raise SettingError(
                f"{where} cannot be recorded: {type(part).__name__} does not keep its argument {name}; "
                "build it by a config and pass that to save_module"
            )
        found[name] = _value(getattr(part, name), f"{where}.{name}")
    return found


def _target(member: Any, where: str) -> str:
    name = public_name(member)
    if name is None or name.startswith("__main__.") or re.search(r"[<>]", name):
        what = "a lambda or local function" if inspect.isroutine(member) else "a local class"
        raise SettingError(
            f"{where} cannot be recorded: it is {what} ({getattr(member, '__qualname__', member)}); "
            "define it in a module, or use functools.partial of something that is"
        )
    return name
