"""Slots whose weights may not leave with the others (`pa_lib.modules.Slot`): which weights, and their own file."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pa_lib import __version__
from pa_lib.errors import WeightsError
from pa_lib.stored import KEY, Stored, marks_in, read, written_aside
from pa_lib.weights_fit import prefixes

if TYPE_CHECKING:  # the command line reads this file before it knows whether it needs torch
    from torch import Tensor, nn


def private_slots(module: object) -> set[str]:
    """Names of the parts that say ``is_exportable = False``, dotted below direct children; none lies within another.

    Args:
        module: Any module. What is none has no slots.
    """
    found: dict[str, None] = {}
    for name, part in _modules(module):  # a module comes before what lies below it
        if part is not module and not getattr(part, "is_exportable", True) and not name.startswith(prefixes(found)):
            found[name] = None
    return set(found)


def private_names(module: nn.Module) -> tuple[str, ...]:
    """How the names of private weights begin: those of private slots, and other names of the same weights.

    A weight that a private slot holds itself is private by whatever other name the module has it too. One of an
    exportable slot within a private slot, such as an autoencoder that the whole system uses, is public by the name that
    it has outside.
    """
    slots = private_slots(module)
    if not slots:
        return ()
    inside = prefixes(slots)
    exportable: list[str] = []
    for name, part in _modules(module):
        if getattr(part, "is_exportable", False) and name.startswith(inside):
            exportable.append(name)
    shared = prefixes(exportable)
    weights = dict(_weights(module))
    own = {_place(one) for name, one in weights.items() if name.startswith(inside) and not name.startswith(shared)}
    return (*inside, *(name for name, one in weights.items() if not name.startswith(inside) and _place(one) in own))


def weight_names(module: nn.Module) -> set[str]:
    """All names of a module's parameters and buffers."""
    return {name for name, _ in _weights(module)}


def digest(module: nn.Module) -> str:
    """A hash of all private weights, which shows that a file without them and the file of them are of one module."""
    import torch

    names, found = private_names(module), hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        if name.startswith(names) and isinstance(tensor, torch.Tensor):
            found.update(name.encode())
            flat = tensor.detach().cpu().contiguous().reshape(-1)
            found.update(flat.view(torch.uint8).numpy().tobytes())
    return found.hexdigest()


def private_path(path: Path) -> Path:
    """Where the private part of a checkpoint lies: ``last.private.ckpt`` beside ``last.ckpt``."""
    return path.with_name(f"{path.stem}.private{path.suffix}")


def next_path(path: Path) -> Path:
    """Where a private part lies until the checkpoint that it belongs to is written: ``last.private.next.ckpt``."""
    return path.with_name(f"{path.stem}.next{path.suffix}")


def settle(public: Path) -> None:
    """Give a private part its own name where a run was killed after its checkpoint was written and before that.

    Args:
        public: The checkpoint.
    """
    aside = next_path(private_path(public))
    if aside.is_file() and public.is_file() and marks_in(aside) == marks_in(public):
        os.replace(aside, private_path(public))


def write_private(path: Path, parts: Mapping[str, Any], slots: Sequence[str], step: int, pair: str) -> None:
    """Write what was left out of a checkpoint for being private, to a file that its owner alone can read.

    Args:
        path: File to write, see `private_path`. It is replaced at once or not at all.
        parts: Parts that were left out, at their places in the checkpoint.
        slots: Names of the private slots.
        step: The checkpoint's ``global_step``.
        pair: The checkpoint's own mark, which no other checkpoint has.
    """
    import torch

    entry = {"version": __version__, "config": {}, "private": sorted(slots), "pair": pair}
    content = {**parts, KEY: entry, "global_step": step}
    content.setdefault("state_dict", {})
    written_aside(path, lambda staged: torch.save(content, staged), is_private=True)


def read_private(path: Path, step: int | None = None, marks: Mapping[str, Any] | None = None) -> Stored:
    """Read a file of `write_private`, or of ``save_module(slots=...)`` with private slots.

    Where a run was killed between the writing of its two files, the right one is found at `next_path`.

    Args:
        path: The private file.
        step: The checkpoint's ``global_step``; None where it states none.
        marks: The checkpoint's marks (`Stored.marks`): those that both files have must be equal. Files of older
            versions have none.

    Raises:
        WeightsError: There is none, it holds no private slots, or it does not belong to the checkpoint.
    """
    there = [one for one in (path, next_path(path)) if one.is_file()]
    if not there:
        raise WeightsError(f"{path}: no such file; the checkpoint's private slots lie there, and it needs them")
    refused: WeightsError | None = None
    for one in there:
        try:
            return _checked(one, step, marks or {})
        except WeightsError as error:
            refused = refused or error  # of the file that was named
    raise refused or WeightsError(f"{path}: cannot be read")


def _checked(path: Path, step: int | None, marks: Mapping[str, Any]) -> Stored:
    stored = read(path)
    if not stored.private:
        raise WeightsError(f"{path}: holds no private slots")
    if step is not None and stored.step is not None and stored.step != step:
        raise WeightsError(
            f"{path}: is of step {stored.step}, the checkpoint of step {step}; they do not belong together"
        )
    if any(stored.marks[name] != marks[name] for name in stored.marks.keys() & marks.keys()):
        raise WeightsError(
            f"{path}: is of another run or module than the checkpoint; expected the private file that was saved with it"
        )
    return stored


def _modules(module: object) -> Iterator[tuple[str, nn.Module]]:
    named = getattr(module, "named_modules", None)
    if named is not None:
        yield from named(remove_duplicate=False)


def _weights(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    yield from module.named_parameters(remove_duplicate=False)
    yield from module.named_buffers(remove_duplicate=False)


def _place(weight: Tensor) -> tuple[Any, ...]:
    """Where a weight lies: equal for all tensors that share memory."""
    from torch.nn.parameter import is_lazy

    if not is_lazy(weight):
        local = getattr(weight, "_local_tensor", weight)  # of a weight that is divided among processes
        if address := local.untyped_storage().data_ptr():
            return (str(local.device), address)
    return (id(weight),)
