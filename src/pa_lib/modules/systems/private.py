"""What belongs to slots whose weights may not be handed out is kept apart from every checkpoint of a system."""

from __future__ import annotations

import functools
import secrets
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import Tensor

from pa_lib.checkpoint import entry_of
from pa_lib.errors import SettingError
from pa_lib.private_slots import private_names, private_path, private_slots, read_private, weight_names
from pa_lib.stored import KEY, marks_of

HandOver = Callable[[dict[str, Any], str], None]  # the private part, and the mark of the checkpoint

_WRAPPERS = ("_orig_mod.", "module.")  # which compilers and averages of other makers put before names


class KeepsPrivate:
    """A system that leaves private slots out of its checkpoints, whatever writes them and whatever a subclass adds.

    With private slots a checkpoint holds plain values, and tensors by the names of public weights; all else goes to the
    private part: private weights and their averages, the states of all optimizers (which are of no use without it), and
    every tensor without the name of a public weight. `LastCheckpoint` writes it to a file of its own; others drop it.

    Hyperparameters (``self.save_hyperparameters()``) are plain values only, with or without private slots: no parts, of
    which every logger and checkpoint would hold the weights. The arguments are in the checkpoint's entry ``pa_lib``.
    """

    def __init_subclass__(cls, **options: Any) -> None:
        """Guard Lightning's hooks of every system, where it has them: its own, or those that it inherits."""
        super().__init_subclass__(**options)
        for name, guard in _GUARDS.items():
            hook = getattr(cls, name, None)
            if hook is not None and not hasattr(hook, "guarded"):
                guarded = functools.wraps(hook)(guard(hook))
                guarded.guarded = True  # type: ignore[attr-defined]
                setattr(cls, name, guarded)

    def private_slots(self) -> set[str]:
        """Slots, at any depth, whose weights may not leave with the others; see `pa_lib.modules.Slot`."""
        return private_slots(self)

    @contextmanager
    def private_part_to(self, hand_over: HandOver) -> Iterator[None]:
        """Let a function have the private part of a checkpoint that is saved inside, before the rest is written."""
        self.__dict__["_hand_over"] = hand_over
        try:
            yield
        finally:
            del self.__dict__["_hand_over"]


def take_private(checkpoint: dict[str, Any], private: tuple[str, ...], names: Collection[str]) -> dict[str, Any]:
    """Take everything out of a checkpoint that is private, or that nothing shows to be public.

    Args:
        checkpoint: Lightning's checkpoint. Changed in place; what it refers to is not.
        private: Beginnings of the names of private weights.
        names: Names of all weights.

    Returns:
        What was taken out, at the same places, for `merge_private`.

    >>> checkpoint = {"state_dict": {"key.weight": 1, "net.weight": 2}, "optimizer_states": [{"state": {0: 3}}]}
    >>> take_private(checkpoint, ("key.",), ["key.weight", "net.weight"])
    {'state_dict': {'key.weight': 1}, 'optimizer_states': [{'state': {0: 3}}]}
    >>> checkpoint
    {'state_dict': {'net.weight': 2}}
    """
    public = {name for name in names if not name.startswith(private)}
    taken: dict[str, Any] = {}
    for key in [key for key in checkpoint if key != KEY]:
        value = checkpoint[key]
        if key == "optimizer_states":
            taken[key] = checkpoint.pop(key)
        elif key == "state_dict":
            apart = {name: one for name, one in value.items() if _is_one_of(name, private)}
            checkpoint[key] = {name: one for name, one in value.items() if name not in apart}
            taken[key] = apart
        else:
            kept, apart = _divided(value, private, public)
            if apart is not _NOTHING:
                taken[key] = apart
                checkpoint[key] = kept
                if kept is _NOTHING:
                    del checkpoint[key]
    return taken


def merge_private(checkpoint: dict[str, Any], taken: Mapping[str, Any]) -> None:
    """Put back what `take_private` has taken out; changes `checkpoint` in place."""
    for key, value in taken.items():
        if key == KEY:
            continue
        if key == "optimizer_states" and key in checkpoint:  # files of older versions divide the states themselves
            for state, apart in zip(checkpoint[key], value, strict=True):
                state["state"] = {**state["state"], **apart["state"]}
        else:
            checkpoint[key] = _merged(checkpoint.get(key, {}), value)


def is_plain(value: Any) -> bool:
    """Whether a value is a number, text, a path or None, or a list or mapping of these: nothing that holds weights."""
    if isinstance(value, Mapping):
        return all(map(is_plain, value)) and all(map(is_plain, value.values()))
    if isinstance(value, list | tuple | set | frozenset):
        return all(map(is_plain, value))
    return value is None or isinstance(value, bool | int | float | str | Path)


# -- hooks -------------------------------------------------------------------------------------------------------------


def _saving(hook: Callable[..., Any]) -> Callable[..., Any]:
    def on_save_checkpoint(self: Any, checkpoint: dict[str, Any]) -> None:
        with _outermost(self, "_is_saving") as is_outermost:
            hook(self, checkpoint)
            if not is_outermost:  # called by a subclass, which may still add to it
                return
            if (given := checkpoint.get("hyper_parameters")) is not None:
                checkpoint["hyper_parameters"] = {name: one for name, one in given.items() if _is_readable(one)}
                checkpoint.pop("hparams_type", None)
            if slots := private_slots(self):
                strategy = type(getattr(getattr(self, "_trainer", None), "strategy", None)).__name__
                if strategy.startswith("DeepSpeed"):
                    raise SettingError(
                        f"strategy {strategy} writes all weights by itself, and {', '.join(sorted(slots))} must not "
                        "leave with the others; take another strategy, e.g. ddp"
                    )
                pair = secrets.token_hex(16)
                checkpoint[KEY] = {**checkpoint.get(KEY, entry_of(self)), "pair": pair}
                part = take_private(checkpoint, private_names(self), weight_names(self))
                if hand_over := self.__dict__.get("_hand_over"):
                    hand_over(part, pair)

    return on_save_checkpoint


def _loading(hook: Callable[..., Any]) -> Callable[..., Any]:
    def on_load_checkpoint(self: Any, checkpoint: dict[str, Any]) -> None:
        with _outermost(self, "_is_loading") as is_outermost:
            path = getattr(getattr(self, "_trainer", None), "ckpt_path", None)
            if is_outermost and path is not None and private_slots(self):
                step, marks = checkpoint.get("global_step"), marks_of(checkpoint.get(KEY))
                merge_private(checkpoint, read_private(private_path(Path(str(path))), step, marks).parts)
            hook(self, checkpoint)

    return on_load_checkpoint


def _choosing(hook: Callable[..., Any]) -> Callable[..., Any]:
    def remove_ignored_hparams(self: Any, ignore_list: list[str]) -> None:
        # Lightning asks for this before it copies hyperparameters for loggers.
        parts = [name for name, value in self.hparams.items() if not is_plain(value)]
        hook(self, [*ignore_list, *parts])

    return remove_ignored_hparams


_GUARDS = {
    "on_save_checkpoint": _saving,
    "on_load_checkpoint": _loading,
    "remove_ignored_hparams": _choosing,
}


@contextmanager
def _outermost(system: Any, flag: str) -> Iterator[bool]:
    """Whether a hook was called by Lightning, and not by that of a subclass."""
    is_outermost = flag not in system.__dict__
    system.__dict__[flag] = True
    try:
        yield is_outermost
    finally:
        if is_outermost:
            del system.__dict__[flag]


def _is_readable(value: Any) -> bool:
    """Whether `pa_lib.load_module` reads it: a plain value of Python's own types."""
    if isinstance(value, dict | list | tuple):
        inner = [*value, *value.values()] if isinstance(value, dict) else value
        return type(value) in (dict, list, tuple) and all(map(_is_readable, inner))
    return type(value) in (type(None), bool, int, float, str)


# -- division ----------------------------------------------------------------------------------------------------------

_NOTHING: Any = object()


def _divided(node: Any, private: tuple[str, ...], public: Collection[str]) -> tuple[Any, Any]:
    """The public and the private part of an entry; `_NOTHING` for one that is not there."""
    if not isinstance(node, dict):
        return (node, _NOTHING) if is_plain(node) else (_NOTHING, node)
    kept: dict[Any, Any] = {}
    apart: dict[Any, Any] = {}
    for key, value in node.items():
        if _is_one_of(key, private):
            apart[key] = value
        elif isinstance(value, Tensor) and isinstance(key, str) and (key in public or _unwrapped(key) in public):
            kept[key] = value
        else:
            below, hidden = _divided(value, private, public)
            if below is not _NOTHING:
                kept[key] = below
            if hidden is not _NOTHING:
                apart[key] = hidden
    return (kept, apart) if apart else (node, _NOTHING)


def _is_one_of(key: Any, private: tuple[str, ...]) -> bool:
    return isinstance(key, str) and (key.startswith(private) or _unwrapped(key).startswith(private))


def _unwrapped(name: str) -> str:
    while name.startswith(_WRAPPERS):
        name = name.partition(".")[2]
    return name.replace("._orig_mod.", ".")


def _merged(node: Any, taken: Any) -> Any:
    if not (isinstance(node, dict) and isinstance(taken, dict)):
        return taken
    return {**node, **{key: _merged(node.get(key, {}), value) for key, value in taken.items()}}
