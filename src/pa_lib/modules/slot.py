"""What every part of a system says of its weights: where they come from, and whether they may be handed out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from torch import nn

from pa_lib.setting_types import check_arguments


@dataclass(frozen=True)
class Origin:
    """A file or folder that a part takes its weights from whenever it is built.

    Args:
        path: Path of a file or a folder, or an id on the hub.
        sha256: Hash of the file, hex; None where it was not computed.
    """

    path: str
    sha256: str | None = None


class Recorded:
    """Remembers the arguments that it is constructed with, from which `pa_lib.checkpoint.config_of` writes a config.

    Attributes:
        maker: The function that builds it, where that is not its class; see `rebuilt_by`.
        made_with: Positional and named arguments, as they were given.
    """

    maker: Callable[..., Any] | None = None
    made_with: tuple[tuple[Any, ...], dict[str, Any]]

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        """Check the types of plain arguments, and take note of all. No constructor has to know of it."""
        check_arguments(cls, args, kwargs)
        made = super().__new__(cls)
        made.__dict__["made_with"] = (args, kwargs)
        return made

    def rebuilt_by(self, maker: Callable[..., Any], **arguments: Any) -> None:
        """Say that it is built again by a call of a function, and not of its class: for what that function returns."""
        self.__dict__["maker"] = maker
        self.__dict__["made_with"] = ((), arguments)


class Slot(Recorded):
    """Base of the parts of a system, beside `torch.nn.Module`: its direct children, or parts of them at any depth.

    A subclass calls `comes_from` in its constructor where it reads its weights from a file, and sets
    ``is_exportable = False`` where its weights must not leave with those of the others.

    Attributes:
        is_exportable: Whether the weights may be part of the checkpoints of the whole system. False for what brings
            people back or recognizes them (a recovery decoder, an authorised network): such a slot is written only to a
            file of its own, which its owner alone may read. Systems (`AbstractAnonymizer`) keep to that. Only weights
            and buffers are private: **arguments of the constructor are settings and stand in public files**. A key or
            passphrase is no argument; give the path of its file.

    >>> class Part(Slot, nn.Linear):
    ...     def __init__(self, path=None):
    ...         super().__init__(1, 1)
    ...         self.comes_from(path)
    >>> Part().is_random, Part("weights.safetensors").is_random, Part("weights.safetensors").origin
    (True, False, Origin(path='weights.safetensors', sha256=None))
    """

    is_exportable: bool = True
    _origin: Origin | None = None

    @property
    def origin(self) -> Origin | None:
        """Where the weights come from whenever the slot is built; None where it begins without a file."""
        return self._origin

    @property
    def is_random(self) -> bool:
        """Whether a newly built slot has random weights, so that it is of no use before it is trained or loaded."""
        return self.origin is None and isinstance(self, nn.Module) and any(True for _ in self.parameters())

    def comes_from(self, path: str | Path | None, sha256: str | None = None) -> None:
        """Say that the weights come from a file whenever this slot is built; None: that they do not.

        A frozen slot with an origin is left out of checkpoints.
        """
        self._origin = None if path is None else Origin(str(path), sha256)


def outermost_slots(module: nn.Module, is_wanted: Callable[[Slot], bool] = lambda slot: True) -> dict[str, Slot]:
    """Dotted name -> slot, for the slots below a module that are wanted, at any depth; none lies within another.

    A slot that has several names is listed under each of them, as its weights are in ``state_dict()``.

    Args:
        module: Usually a system; itself not listed.
        is_wanted: Whether a slot is to be listed; what lies below one that is not is looked at too.

    >>> system = nn.ModuleDict({"parts": nn.ModuleDict({"key": type("Key", (Slot, nn.Linear), {})(1, 1)})})
    >>> list(outermost_slots(system))
    ['parts.key']
    """
    found: dict[str, Slot] = {}
    for name, part in module.named_modules(remove_duplicate=False):  # a module comes before what lies below it
        is_below = name.startswith(tuple(f"{outer}." for outer in found))
        if part is not module and isinstance(part, Slot) and not is_below and is_wanted(part):
            found[name] = part
    return found
