"""Weights into a module by their names, and what to say where they do not fit."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pa_lib.errors import WeightsError, listed
from pa_lib.renamed import current_names

if TYPE_CHECKING:  # the command line reads this file before it knows whether it needs torch
    from torch import Tensor, nn


def prefixes(slots: Collection[str]) -> tuple[str, ...]:
    """How the names of these slots' weights begin, sorted.

    >>> prefixes({"temporal", "box.inner"})
    ('box.inner.', 'temporal.')
    """
    return tuple(sorted(f"{slot}." for slot in slots))


class _MisfitError(WeightsError):
    """Weights that do not fit.

    Args:
        path: The file.
        what: The names or shapes that differ.
        slots: Slots that these are of.
    """

    def __init__(self, path: Path, what: str, slots: Collection[str]) -> None:
        super().__init__(f"{path}: the weights do not fit: {what}")
        self.path, self.what, self.slots = path, what, slots


@contextmanager
def explained(made: Mapping[str, Any], asked: Mapping[str, Any]) -> Iterator[None]:
    """Let weights that do not fit say which settings of their slots are others than those they were made with."""
    try:
        yield
    except _MisfitError as error:
        missing = object()
        pairs = [(slot, made.get(slot, missing), asked.get(slot, missing)) for slot in sorted(error.slots)]
        pairs = [(slot, old, new) for slot, old, new in pairs if missing not in (old, new) and old != new]
        if not pairs:
            raise WeightsError(str(error)) from error
        differing = [
            f"made with {slot} {_differing(old, new)}, asked for {_differing(new, old)}" for slot, old, new in pairs
        ]
        leave = " and ".join(f"module.{slot}" for slot, *_ in pairs)
        raise WeightsError(
            f"{error.path}: the weights do not fit: {'; '.join(differing)}; leave out what changes {leave}, or train "
            f"weights for it ({error.what})"
        ) from error


def _differing(node: Any, other: Any) -> str:
    """A slot's part as text: its class, and the settings in which it differs from another one of this class."""
    if not isinstance(node, Mapping):
        return "none" if node is None else repr(node)
    name = str(node.get("_target_", "")).rpartition(".")[2]
    if not isinstance(other, Mapping) or node.get("_target_") != other.get("_target_"):
        return name
    return f"{name}({listed(f'{key}={value!r}' for key, value in node.items() if other.get(key) != value)})"


def load_weights(
    module: nn.Module,
    weights: Mapping[str, Tensor],
    path: Path,
    *,
    slots: Collection[str] | None,
    missing_ok: tuple[str, ...],
) -> None:
    """Load weights by their names into a module, or into some of its slots; what does not fit is refused.

    Args:
        module: Module that takes the weights.
        weights: Name -> tensor; names of older versions are taken too.
        path: File that they are from, for the message.
        slots: Names of the slots to load; None for the whole module.
        missing_ok: Beginnings of names that `weights` may lack.

    Raises:
        WeightsError: Names or shapes do not fit, or there are no weights of a slot.
    """
    weights = current_names(weights)

    def is_wanted(name: str) -> bool:
        return slots is None or name.startswith(prefixes(slots))

    own = {name: tensor for name, tensor in module.state_dict().items() if is_wanted(name)}
    given = {name: tensor for name, tensor in weights.items() if is_wanted(name)}
    if own and not given and slots is not None and not all(name.startswith(missing_ok) for name in own):
        held = ", ".join(sorted({name.split(".", 1)[0] for name in weights})) or "none"
        raise WeightsError(f"{path}: holds no weights of slot {', '.join(sorted(slots))}; it holds: {held}")
    missing = [name for name in own if name not in given and not (missing_ok and name.startswith(missing_ok))]
    unexpected = [name for name in given if name not in own]
    if missing or unexpected:
        parts = [f"lacks {listed(missing)}"] if missing else []
        parts += [f"has {listed(unexpected)}, which the module has not"] if unexpected else []
        raise _MisfitError(path, f"the file {' and '.join(parts)}", _slots_of([*missing, *unexpected]))
    for name, tensor in given.items():
        if tensor.shape != own[name].shape:
            got, expected = tuple(tensor.shape), tuple(own[name].shape)
            what = f"{name} has shape {got}, expected {expected}; was another backbone or size used?"
            raise _MisfitError(path, what, _slots_of([name]))
    module.load_state_dict(dict(given), strict=False)


def _slots_of(names: Iterable[str]) -> set[str]:
    return {name.split(".", 1)[0] for name in names}
