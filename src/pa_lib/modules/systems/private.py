"""What of a checkpoint belongs to slots whose weights may not be handed out, apart from the rest of it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Any

from torch import nn
from torch.optim import Optimizer


def take_private(checkpoint: dict[str, Any], slots: Collection[str], positions: Sequence[set[int]]) -> dict[str, Any]:
    """Take everything of private slots out of a checkpoint: weights, averages of them, and optimizer states.

    Args:
        checkpoint: Lightning's checkpoint. Changed in place; what it refers to is not.
        slots: Names of the slots.
        positions: Positions of the private parameters of every optimizer, by which its state is stored.

    Returns:
        What was taken out, at the same places, for `merge_private`.

    >>> checkpoint = {"state_dict": {"key.weight": 1, "net.weight": 2}, "optimizer_states": [{"state": {0: 3, 1: 4}}]}
    >>> take_private(checkpoint, ["key"], [{0}])
    {'state_dict': {'key.weight': 1}, 'optimizer_states': [{'state': {0: 3}}]}
    >>> checkpoint
    {'state_dict': {'net.weight': 2}, 'optimizer_states': [{'state': {1: 4}}]}
    """
    # Averages of other makers keep the names of a wrapper's weights.
    prefixes = tuple(f"{wrapper}{slot}." for slot in slots for wrapper in ("", "module.", "_orig_mod."))
    taken: dict[str, Any] = {}
    for key, value in list(checkpoint.items()):
        if key != "optimizer_states":
            checkpoint[key], private = _divided(value, prefixes)
            if private:
                taken[key] = private
    states = checkpoint.get("optimizer_states")
    if states is not None:
        own = [*positions, *[set[int]()] * (len(states) - len(positions))]
        kept, apart = [], []
        for state, at in zip(states, own, strict=True):
            inner = state["state"]
            mine = {key for key in inner if key in at or (isinstance(key, str) and key.startswith(prefixes))}
            kept.append({**state, "state": {key: value for key, value in inner.items() if key not in mine}})
            apart.append({"state": {key: inner[key] for key in inner if key in mine}})
        checkpoint["optimizer_states"] = kept
        taken["optimizer_states"] = apart
    return taken


def positions_of(private: Iterable[nn.Module], optimizers: Iterable[Optimizer]) -> list[set[int]]:
    """For every optimizer the positions of private parameters, by which its state is stored.

    Args:
        private: The slots whose parameters are private.
        optimizers: All optimizers of a run, in the order in which a checkpoint holds their states.
    """
    own = {id(parameter) for slot in private for parameter in slot.parameters()}
    return [
        {
            position
            for position, parameter in enumerate(one for group in optimizer.param_groups for one in group["params"])
            if id(parameter) in own
        }
        for optimizer in optimizers
    ]


def merge_private(checkpoint: dict[str, Any], taken: dict[str, Any]) -> None:
    """Put back what `take_private` has taken out; changes `checkpoint` in place."""
    for key, value in taken.items():
        if key == "optimizer_states":
            for state, apart in zip(checkpoint[key], value, strict=True):
                state["state"] = {**state["state"], **apart["state"]}
        else:
            checkpoint[key] = _merged(checkpoint.get(key, {}), value)


def _divided(node: Any, prefixes: tuple[str, ...]) -> tuple[Any, dict[Any, Any]]:
    """A nested dictionary without the entries of private slots, and those entries."""
    if not isinstance(node, dict):
        return node, {}
    public: dict[Any, Any] = {}
    private: dict[Any, Any] = {}
    for key, value in node.items():
        if isinstance(key, str) and key.startswith(prefixes):
            private[key] = value
            continue
        public[key], below = _divided(value, prefixes)
        if below:
            private[key] = below
    return (public, private) if private else (node, {})


def _merged(node: Any, taken: Any) -> Any:
    if not (isinstance(node, dict) and isinstance(taken, dict)):
        return taken
    return {**node, **{key: _merged(node.get(key, {}), value) for key, value in taken.items()}}
