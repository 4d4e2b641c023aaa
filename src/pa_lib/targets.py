"""Which classes a config may name (its ``_target_``s): one check for command lines, checkpoints, tracks files, reports.

A config builds whatever it names, so a config of unknown origin could run any code. A prefix alone is no fence: Hydra
walks attributes, so ``pa_lib.video.staging.subprocess.run`` would begin right. A target is therefore the public name of
one package and nothing deeper: what a pa_lib package exports, or a class of one of the packages of torch and Lightning
listed here. Classes of your own need your permission, package by package (`check_targets`, `trusted`), which no file
can give.

Nor is a public name a permission: it must be a class of the kind that is meant at its place (`check_roles`), as the
annotation of the argument there says. Functions are never meant, but for those in `FACTORIES`.
"""

from __future__ import annotations

import importlib
import inspect
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, get_type_hints

from pa_lib.errors import SettingError, listed
from pa_lib.roles import ANY, Role, role_of
from pa_lib.setting_types import annotations_of

STORED = ("pa_lib.modules", "pa_lib.functional", "pa_lib.pretrained")
"""Packages whose exports a checkpoint may name."""

COMMAND_LINE = (*STORED, "pa_lib.callbacks", "pa_lib.data", "pa_lib.evaluation", "pa_lib.metrics", "pa_lib.people")
"""Packages whose exports a command line or a config folder may name."""

FACTORIES = ("pa_lib.modules.embedded_passersby",)
"""Public functions that stand for the class that they make."""

_TORCH = ("torch.nn", "torch.optim", "torch.optim.lr_scheduler")
_LIGHTNING = (
    "lightning.pytorch",
    "lightning.pytorch.callbacks",
    "lightning.pytorch.loggers",
    "lightning.pytorch.plugins",
    "lightning.pytorch.profilers",
    "lightning.pytorch.strategies",
)

_INTERPRETERS = ("hydra", "omegaconf", "pip", "setuptools", "pkg_resources", "importlib_metadata")

_KNOWN = ("pa_lib", "torch", "lightning", "torchmetrics")


def check_targets(
    config: Any,
    where: object,
    trusted: Sequence[str] = (),
    *,
    role: Any = None,
    packages: Sequence[str] = STORED,
    libraries: Sequence[str] = (),
    is_literal: bool = False,
) -> tuple[str, ...]:
    """Refuse a config that names anything but public parts and classes of trusted packages.

    Args:
        config: Nested mappings and lists. Nothing of it is instantiated.
        where: Origin of the config for errors: a file, or part of a command line.
        trusted: Trusted packages or modules of your own, e.g. ``("my_package",)``. Permits what is defined in them and
            in the modules below them, under its own name: ``my_package.parts.MyAdapter``, but neither
            ``my_package.os.system`` nor what they import from elsewhere.
        role: Annotation of what the config is to make, see `check_roles`; None: that is checked when it is built.
        packages: Packages of pa_lib that may be named: `STORED`, or `COMMAND_LINE`, which adds torchmetrics and
            Lightning.
        libraries: Packages of others of which what is defined in them may be named, as with `trusted`, but without
            permission.
        is_literal: Whether ``${`` in a text is part of it, as in a file's name: who builds the config interpolates
            nothing.

    Returns:
        Those of `trusted` that the config makes use of; what it must be given again to be built elsewhere.

    Raises:
        SettingError: Names the target, or says that text is left to be interpolated, which may read the environment.

    >>> check_targets({"_target_": "torch.nn.SiLU"}, "m.ckpt")
    ()
    >>> check_targets({"_target_": "os.system"}, "m.ckpt")
    Traceback (most recent call last):
    pa_lib.errors.SettingError: m.ckpt: refused _target_ os.system: expected a public name of pa_lib.modules, ...
    """
    if not isinstance(trusted, list | tuple) or not all(isinstance(root, str) for root in trusted):
        example = f"trusted=('{trusted}',)" if isinstance(trusted, str) else "trusted=('my_package',)"
        raise SettingError(f"{where}: got {trusted!r}, expected a list of names of packages; write {example}")
    for root in trusted:
        first = root.partition(".")[0]
        if first in sys.stdlib_module_names or first in _INTERPRETERS:
            kind = "a library that calls any function" if first in _INTERPRETERS else "a part of Python itself"
            raise SettingError(f"{where}: trusted names {root}, {kind}; expected packages of yours")
    used: set[str] = set()
    is_command_line = any(package not in STORED for package in packages)
    allowed = (*libraries, "torchmetrics") if is_command_line else libraries
    for target in targets_in(config):
        package, _, name = target.rpartition(".")
        if package in packages:
            if name in importlib.import_module(package).__all__:
                continue
        elif package in _TORCH or (is_command_line and package in _LIGHTNING):
            found = getattr(importlib.import_module(package), name, None)
            if inspect.isclass(found) and _is_below(found.__module__, package.partition(".")[0]):
                continue  # defined there, and not imported from elsewhere, as functools.partial is
        elif any(_is_own(target, library) for library in allowed):
            continue
        elif root := next((root for root in trusted if _is_own(target, root)), None):
            used.add(root)
            continue
        raise SettingError(f"{where}: refused _target_ {target}: {_expected(target, [*packages, *_TORCH], trusted)}")
    if not is_literal and "${" in json.dumps(config, default=str):
        raise SettingError(f"{where}: refused a config with unresolved ${{...}}; write it resolved")
    if role is not None:
        check_roles(config, role, where)
    return tuple(root for root in trusted if root in used)


def check_roles(config: Any, role: Any, where: object) -> None:
    """Refuse a config in which a part is not of the kind that is meant at its place. Nothing is built.

    Args:
        config: Config whose names are permitted, see `check_targets`.
        role: Annotation of what it is to make, e.g. ``AbstractMasker``, or ``Callable[..., Optimizer]`` for a node with
            ``_partial_``; lists and mappings of parts are looked through. What is meant further inside, the annotations
            of the arguments say; classes that are not of pa_lib, torch or Lightning take any class.
        where: Place of the config for errors.

    Raises:
        SettingError: Names the target, what is meant in its place, and which classes that are.

    >>> from pa_lib.people import AbstractMasker
    >>> check_roles({"_target_": "pa_lib.people.BoxMasker"}, AbstractMasker, "clip.tracks.json")
    >>> check_roles({"_target_": "pa_lib.people.write_tracks"}, AbstractMasker, "clip.tracks.json")
    Traceback (most recent call last):
    pa_lib.errors.SettingError: clip.tracks.json: refused _target_ pa_lib.people.write_tracks: it is a function, ...
    """
    _check_roles(config, role_of(role), f"{where}")


def _check_roles(node: Any, role: Role, where: str) -> None:
    if isinstance(node, list | tuple):
        for value in node:
            _check_roles(value, role, where)
    elif isinstance(node, Mapping) and "_target_" in node:
        make, kind = _part(str(node["_target_"]), role, where)
        is_partial = bool(node.get("_partial_"))
        if kind is not None and (inspect.isabstract(kind) or not role.allows(kind, is_partial=is_partial)):
            raise SettingError(f"{where}: refused _target_ {node['_target_']}: {_meant(role, is_partial)}")
        for argument, value in node.items():
            if argument == "_args_" and isinstance(value, list | tuple):
                names = list(inspect.signature(make).parameters)
                for at, one in enumerate(value):
                    _check_roles(one, _role_of_argument(names[at] if at < len(names) else "", make), where)
            else:
                _check_roles(value, _role_of_argument(argument, make), where)
    elif isinstance(node, Mapping):
        for value in node.values():
            _check_roles(value, role, where)


def _part(target: str, role: Role, where: str) -> tuple[Callable[..., Any], type | None]:
    """What a target names, and the class that it makes; None where a function of the user's own does not say."""
    package, _, name = target.rpartition(".")
    found = getattr(importlib.import_module(package), name)
    if inspect.isclass(found):
        return found, found
    if target not in FACTORIES and target.partition(".")[0] in _KNOWN:
        raise SettingError(f"{where}: refused _target_ {target}: it is a function, {_meant(role, is_partial=False)}")
    made = get_type_hints(found).get("return")
    return found, made if inspect.isclass(made) else None


def _role_of_argument(argument: str, make: Callable[..., Any]) -> Role:
    root = make.__module__.partition(".")[0]
    if root not in ("pa_lib", "torch", "lightning"):
        return ANY
    if argument in (known := annotations_of(make)):
        role = role_of(known[argument][0])
        return Role() if role.is_open else role
    return role_of(importlib.import_module("torch.nn").Module) if make.__module__.startswith("torch.nn.") else Role()


def _meant(role: Role, is_partial: bool) -> str:
    """What is meant at a place, with the public classes that are."""
    if role.is_open:
        return "expected a class"
    if not str(role):
        return "expected a plain value there, and no part"
    names: list[str] = []
    for package in COMMAND_LINE:
        exported = importlib.import_module(package)
        for name in sorted(exported.__all__):
            one = getattr(exported, name)
            if inspect.isclass(one) and not inspect.isabstract(one) and role.allows(one, is_partial=is_partial):
                names.append(f"{package}.{name}")
    return f"expected a kind of {role}" + (f": {listed(names)}" if names else "")


def targets_in(node: Any) -> Iterator[str]:
    """Every ``_target_`` in a config, nested ones too."""
    if isinstance(node, Mapping):
        if "_target_" in node:
            yield str(node["_target_"])
        for value in node.values():
            yield from targets_in(value)
    elif isinstance(node, list | tuple):
        for value in node:
            yield from targets_in(value)


def public_name(member: Any) -> str | None:
    """The name by which a config can call a class or function; None for one without a name of its own (a lambda).

    >>> public_name(SettingError), public_name(lambda: 0)
    ('pa_lib.errors.SettingError', None)
    """
    name, module = getattr(member, "__qualname__", ""), getattr(member, "__module__", "") or ""
    if not name.isidentifier() or not module:
        return None
    for package in (*COMMAND_LINE, *_TORCH, *_LIGHTNING):
        if module.startswith(f"{package.partition('.')[0]}."):
            exported = importlib.import_module(package)
            is_exported = package not in COMMAND_LINE or name in exported.__all__
            if is_exported and getattr(exported, name, None) is member:
                return f"{package}.{name}"
    found = getattr(sys.modules.get(module), name, None)
    return f"{module}.{name}" if found is member else None


def own_packages(config: Any) -> tuple[str, ...]:
    """The modules outside of pa_lib and the listed libraries that a config names: what `trusted` must permit."""
    modules = {target.rpartition(".")[0] for target in targets_in(config)}
    return tuple(sorted(module for module in modules if module and module.partition(".")[0] not in _KNOWN))


def _is_own(target: str, root: str) -> bool:
    """Whether a target is defined in `root` or below it and is named by the module that it is reached through."""
    module, _, name = target.rpartition(".")
    if not _is_below(module, root):
        return False
    try:
        found = getattr(importlib.import_module(module), name, None)
    except ModuleNotFoundError as error:
        if error.name is not None and _is_below(module, error.name):
            return False  # ``my_package.os`` is no module
        raise
    return callable(found) and _is_below(getattr(found, "__module__", None) or "", root)


def _is_below(module: str, root: str) -> bool:
    return module == root or module.startswith(f"{root}.")


def _expected(target: str, packages: Sequence[str], trusted: Sequence[str]) -> str:
    expected = f"expected a public name of {', '.join([*packages, *trusted])}"
    root = target.partition(".")[0]
    if root in _KNOWN or root in sys.stdlib_module_names or "." not in target:
        return expected
    return f"{expected}; if {root} is a package of yours whose code may run, permit it: trusted=({root!r},)"
