"""Whether the parts of a system fit each other: each says what it provides and requires, one function compares."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pa_lib.errors import SettingError
from pa_lib.modules.slot import Recorded


@dataclass(frozen=True)
class Requirement:
    """What a part needs of something that another part provides.

    Args:
        of: Name of what is provided, such as ``latent_channels``.
        problem: Function from what is provided to the error that says what was got, what was expected and what to
            choose; None where it fits.
    """

    of: str
    problem: Callable[[Any], str | None]


class Fitting(Recorded):
    """A part that may say what it provides to others and requires of them; nothing, unless it overrides these."""

    def provides(self) -> Mapping[str, Any]:
        """Name -> value, for the requirements of others."""
        return {}

    def requirements(self) -> Sequence[Requirement]:
        """What it needs of the others."""
        return ()


def check_fit(parts: Iterable[object], further: Mapping[str, Any] | None = None) -> None:
    """Compare what every part requires with what the others provide; what no part provides is not compared.

    Args:
        parts: The parts of a system, in the order in which problems are reported; those that are not `Fitting` fit.
        further: Further provisions, of the system itself.

    Raises:
        SettingError: Two parts do not fit; says which, and which to choose.

    >>> class Bolt(Fitting):
    ...     def provides(self):
    ...         return {"width": 4}
    >>> class Nut(Fitting):
    ...     def requirements(self):
    ...         return [Requirement("width", lambda width: None if width == 5 else f"got {width}, expected 5; take M5")]
    >>> check_fit([Bolt(), Nut()])
    Traceback (most recent call last):
    pa_lib.errors.SettingError: got 4, expected 5; take M5
    """
    fitting = [part for part in parts if isinstance(part, Fitting)]
    provided: dict[str, Any] = dict(further or {})
    for part in fitting:
        provided |= part.provides()
    for part in fitting:
        for requirement in part.requirements():
            problem = requirement.problem(provided[requirement.of]) if requirement.of in provided else None
            if problem is not None:
                raise SettingError(problem)
