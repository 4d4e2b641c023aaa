"""Settings and weights that have got another name: the old one still works, in stored files and on command lines.

One row to a setting, in `RENAMED`. A row is kept for one version and then removed.
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from pa_lib.errors import SettingError


@dataclass(frozen=True)
class Renamed:
    """One setting's old and new name.

    Args:
        old: Old name with dots, as on the command line of ``pa-train``: ``module.crops.steadiness``.
        new: New name with dots, below the same first part.
        change: Function from the old value to the new one; None where the value stays.
        on: Class of the node that holds the setting, its ``_target_``: only there it is renamed; empty for any.
    """

    old: str
    new: str
    change: Callable[[Any], Any] | None = None
    on: str = ""


def _part(target: str, argument: str) -> Callable[[Any], Any]:
    return lambda value: {"_target_": f"pa_lib.modules.{target}", argument: value}


def _guidance(old: str, name: str, target: str, argument: str, on: str = "") -> tuple[Renamed, Renamed]:
    """What was a number is a part now. Stored configs get the part; a command line, whose config has it, the number.

    Both rows have the same old name: stored configs go by the first one, which takes the value away, command lines by
    the last one.
    """
    return (
        Renamed(f"module.{old}", f"module.guidance.{name}", _part(target, argument), on),
        Renamed(f"module.{old}", f"module.guidance.{name}.{argument}"),
    )


RENAMED: tuple[Renamed, ...] = (
    *_guidance("sampler.guidance", "text", "ClassifierFreeGuidance", "scale"),
    *_guidance("sampler.mean_guidance", "mean", "MeanGuidance", "scale"),
    *_guidance("identity_push", "identity", "IdentityGuidance", "strength", "pa_lib.modules.PassersbyAnonymizer"),
    Renamed("module.crops.steadiness", "module.crops.temporal_smoothing"),
    Renamed("module.mask_aware.augmentation.tremble", "module.mask_aware.augmentation.jitter"),
    Renamed("module.colour", "module.color", on="pa_lib.modules.ConventionalAnonymizer"),
    Renamed("data.augmentation.veil_p", "data.augmentation.haze_p"),
    Renamed("data.augmentation.veil", "data.augmentation.haze"),
    Renamed("data.augmentation.colour_p", "data.augmentation.color_p"),
    Renamed("data.augmentation.colour", "data.augmentation.color"),
    Renamed("faces.least_face_px", "faces.min_face_px"),
    Renamed("attack.sees", "attack.region"),
    Renamed("steadiness_s", "smoothing_s"),  # of pa-tracklets, and of the settings in its folders
)

TARGETS: Mapping[str, str] = {}
"""Public names that have moved: old ``_target_`` -> new one."""

WEIGHTS = (  # `SpatialContentAdapter`, before its layers were peft's
    (re.compile(r"(^|\.)(layers\.[^.]+)\.down$"), r"\1\2.lora_A.default.weight"),
    (re.compile(r"(^|\.)(layers\.[^.]+)\.up$"), r"\1\2.lora_B.default.weight"),
)
"""Names of weights that have changed: pattern -> replacement."""

T = TypeVar("T")


def current_names(weights: Mapping[str, T]) -> dict[str, T]:
    """Weights with today's names, from a file of this or of an earlier version.

    >>> current_names({"adapter.layers.mid-to_q.down": 1, "adapter.layers.mid_0.down.weight": 2})
    {'adapter.layers.mid-to_q.lora_A.default.weight': 1, 'adapter.layers.mid_0.down.weight': 2}
    """
    return {_current_name(name): value for name, value in weights.items()}


def _current_name(name: str) -> str:
    for pattern, replacement in WEIGHTS:
        name = pattern.sub(replacement, name)
    return name


def migrated(
    config: Mapping[str, Any],
    prefix: str = "module",
    rows: Sequence[Renamed] | None = None,
    targets: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """A stored config with today's names.

    Args:
        config: The stored config. Not changed.
        prefix: Prefix that the names of the rows have before those of `config`: a checkpoint stores the ``module`` part
            only. Empty for a whole config.
        rows: Table of renamed settings; None = `RENAMED`.
        targets: Table of renamed classes; None = `TARGETS`.

    Raises:
        SettingError: The old and the new name of a setting are both there.

    >>> migrated({"crops": {"old": 1}}, rows=[Renamed("module.crops.old", "module.crops.new", lambda value: 2 * value)])
    {'crops': {'new': 2}}
    """
    result = copy.deepcopy(dict(config))
    _rename_targets(result, TARGETS if targets is None else targets)
    for row in RENAMED if rows is None else rows:
        old, new = _below(row.old, prefix), _below(row.new, prefix)
        if old is None or new is None:
            continue
        *above, last = old.split(".")
        node = _node(result, above)
        if node is None or last not in node or (row.on and node.get("_target_") != row.on):
            continue
        value = node.pop(last)
        *above, last = new.split(".")
        node = _node(result, above, is_made=True)
        if node is not None:
            if last in node:
                raise _both_names(row)
            node[last] = value if row.change is None else row.change(value)
    return result


def renamed_config(
    config: dict[str, Any], overrides: Sequence[str] = (), rows: Sequence[Renamed] | None = None
) -> list[str]:
    """Give the old names that a user's config file adds to the shipped ones today's names, in place.

    The value of the file replaces the shipped one, as it would under today's name.

    Args:
        config: Composed config, changed.
        overrides: Settings of the command line, with today's names; they go over the files'.
        rows: Table of renamed settings; None = `RENAMED`.

    Returns:
        One line of warning for each old name.

    >>> config = {"data": {"old": 1, "new": 0}}
    >>> renamed_config(config, rows=[Renamed("data.old", "data.new")]), config
    (['data.old is called data.new now; the old name works in this version'], {'data': {'new': 1}})
    """
    given = {_key(override) for override in overrides}
    warnings = []
    for old, row in {row.old: row for row in (RENAMED if rows is None else rows)}.items():
        *above, last = old.split(".")
        node = _node(config, above)
        same = [one for one in (RENAMED if rows is None else rows) if one.old == old]
        if node is None or last not in node or (same[0].on and node.get("_target_") != same[0].on):
            continue
        if row.new in given:
            node.pop(last)
        else:
            value = node.pop(last)
            *above, last = row.new.split(".")
            if _node(config, above) is None:  # the part that holds the number is not there: it is made
                row = same[0]
                *above, last = row.new.split(".")
            made = _node(config, above, is_made=True)
            if made is None:
                raise SettingError(f"{old} is called {row.new} now, and there is no {'.'.join(above)}")
            made[last] = value if row.change is None else row.change(value)
        warnings.append(_warning(row))
    return warnings


def _warning(row: Renamed) -> str:
    return f"{row.old} is called {row.new} now; the old name works in this version"


def _both_names(row: Renamed) -> SettingError:
    return SettingError(f"got both {row.old} and {row.new}, the old and the new name of one setting; give {row.new}")


def _key(override: str) -> str:
    return override.partition("=")[0].lstrip("+~")


def renamed_setting(name: str, prefix: str = "module", rows: Sequence[Renamed] | None = None) -> str:
    """Today's name of a setting that is given without `prefix`, e.g. to ``load_module(changed=...)``."""
    full = f"{prefix}.{name}" if prefix else name
    for row in reversed(RENAMED if rows is None else rows):  # the last one, as on a command line
        if row.old == full:
            return row.new.removeprefix(f"{prefix}.") if prefix else row.new
    return name


def renamed_overrides(overrides: Sequence[str], rows: Sequence[Renamed] | None = None) -> tuple[list[str], list[str]]:
    """The overrides of a command line with today's names, and one line of warning for each that had an old one.

    Raises:
        SettingError: Several values at once (a sweep) for a setting whose values have changed with its name; or the
            old and the new name at once.

    >>> renamed_overrides(["seed=1", "module.colour=red"], [Renamed("module.colour", "module.color")])
    (['seed=1', 'module.color=red'], ['module.colour is called module.color now; the old name works in this version'])
    """
    table = {row.old: row for row in (RENAMED if rows is None else rows)}
    result, warnings = [], []
    given = {_key(override) for override in overrides}
    for override in overrides:
        key, has_value, text = override.partition("=")
        mark = key[: len(key) - len(key.lstrip("+~"))]
        row = table.get(key.removeprefix(mark))
        if row is None:
            result.append(override)
            continue
        if row.new in given:
            raise _both_names(row)
        if has_value and row.change is not None:
            text = _changed(row, text)
        result.append(f"{mark}{row.new}{has_value}{text}")
        warnings.append(_warning(row))
    return result, warnings


def _changed(row: Renamed, text: str) -> str:
    import yaml

    value = yaml.safe_load(text)
    if isinstance(value, str) and "," in value:
        raise SettingError(f"{row.old} is called {row.new} now, and takes other values; give those to the new name")
    assert row.change is not None
    return json.dumps(row.change(value))


def _rename_targets(node: Any, targets: Mapping[str, str]) -> None:
    if isinstance(node, dict):
        if node.get("_target_") in targets:
            node["_target_"] = targets[node["_target_"]]
        for value in node.values():
            _rename_targets(value, targets)
    elif isinstance(node, list):
        for value in node:
            _rename_targets(value, targets)


def _below(name: str, prefix: str) -> str | None:
    if not prefix:
        return name
    return name.removeprefix(f"{prefix}.") if name.startswith(f"{prefix}.") else None


def _node(config: dict[str, Any], above: Sequence[str], is_made: bool = False) -> dict[str, Any] | None:
    node: Any = config
    for part in above:
        if is_made and isinstance(node, dict):
            node.setdefault(part, {})
        node = node.get(part) if isinstance(node, dict) else None
    return node if isinstance(node, dict) else None
