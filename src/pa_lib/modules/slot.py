"""What every part of a system says of its weights: where they come from, and whether they may be handed out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from torch import nn


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
        """Take note of the arguments. No constructor has to know of it."""
        made = super().__new__(cls)
        made.__dict__["made_with"] = (args, kwargs)
        return made

    def rebuilt_by(self, maker: Callable[..., Any], **arguments: Any) -> None:
        """Say that it is built again by a call of a function, and not of its class: for what that function returns."""
        self.__dict__["maker"] = maker
        self.__dict__["made_with"] = ((), arguments)


class Slot(Recorded):
    """Base of what can be a direct child of a system, beside `torch.nn.Module`.

    A subclass calls `comes_from` in its constructor where it reads its weights from a file, and sets
    ``is_exportable = False`` where its weights must not leave with those of the others.

    Attributes:
        is_exportable: Whether the weights may be part of the checkpoints of the whole system. False for what brings
            people back or recognizes them (a recovery decoder, an authorised network): such a slot is written only to a
            file of its own, which its owner alone may read.

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
