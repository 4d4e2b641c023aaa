"""Names that weights of adapters had in earlier versions."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TypeVar

T = TypeVar("T")

_LOW_RANK = re.compile(r"(^|\.)layers\.([^.]+)\.(down|up)$")
_TODAY = {"down": "lora_A", "up": "lora_B"}


def current_names(weights: Mapping[str, T]) -> dict[str, T]:
    """Replace the names that weights of `SpatialContentAdapter` had before it used peft by those of today.

    >>> current_names({"adapter.layers.mid-to_q.down": 1, "adapter.layers.mid_0.down.weight": 2})
    {'adapter.layers.mid-to_q.lora_A.default.weight': 1, 'adapter.layers.mid_0.down.weight': 2}
    """
    return {
        _LOW_RANK.sub(lambda found: f"{found[1]}layers.{found[2]}.{_TODAY[found[3]]}.default.weight", name): value
        for name, value in weights.items()
    }
