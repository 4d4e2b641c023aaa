"""Which classes and functions a config may name (its ``_target_``s): one check for command lines and checkpoints.

A config builds whatever it names, so a config of unknown origin could run any code. A prefix alone is no fence: Hydra
walks attributes, so ``pa_lib.video.staging.subprocess.run`` would begin right. A target is therefore the public name of
one package and nothing deeper: what a pa_lib package exports, or a class of one of the packages of torch and Lightning
listed here. Classes of your own need your permission, package by package (`check_targets`, `trusted`).
"""

from __future__ import annotations

import importlib
import inspect
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pa_lib.errors import SettingError

STORED = ("pa_lib.modules", "pa_lib.functional", "pa_lib.pretrained")
"""Packages whose exports a checkpoint may name."""

COMMAND_LINE = (*STORED, "pa_lib.callbacks", "pa_lib.data", "pa_lib.evaluation", "pa_lib.metrics", "pa_lib.people")
"""Packages whose exports a command line or a config folder may name."""

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
    return tuple(root for root in trusted if root in used)


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
