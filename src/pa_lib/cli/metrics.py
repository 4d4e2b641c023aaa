"""Metrics from their config nodes. Parts with the same settings are one object, so that what is costly is done once."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pa_lib.cli.compose import ConfigError, build, config_folder

if TYPE_CHECKING:
    from pa_lib.metrics import AbstractMetric

_GROUP = "metrics"


def spread(overrides: Sequence[str], config_dir: Path | None = None) -> list[str]:
    """``metrics=[a,b]`` and ``metrics=a``, where they name metrics, as overrides of Hydra that put each at its name.

    So that every metric's settings lie at ``metrics.<name>.…``, as in the groups, and several do not cover each other.
    """
    told: list[str] = []
    for override in overrides:
        group, _, value = override.partition("=")
        names = [name.strip() for name in value.strip().removeprefix("[").removesuffix("]").split(",")]
        is_list = value.strip().startswith("[")
        if group != _GROUP or not all(names) or not (is_list or _is_leaf(names[0], config_dir)):
            told.append(override)
            continue
        told += [f"{_GROUP}=none", *(f"+{_GROUP}@{_GROUP}.{name}={name}" for name in names)]
    return told


def build_metrics(node: Mapping[str, Any] | None, shared: dict[str, Any] | None = None) -> list[AbstractMetric]:
    """The metrics of a config, in its order.

    Args:
        node: A metric's own, or names with nodes below them, to any depth.
        shared: Parts made before, by their settings; new ones are added.

    Raises:
        ConfigError: Something is no metric, or two metrics have one name and the same protocol.
        PaLibError: What a part refuses.
    """
    from pa_lib.metrics import AbstractMetric

    shared = {} if shared is None else shared
    metrics: list[AbstractMetric] = []
    for name, leaf in _leaves(node or {}, _GROUP):
        metric = _assembled(leaf, shared)
        if not isinstance(metric, AbstractMetric):
            raise ConfigError(f"{name} is a {type(metric).__name__}, expected a metric")
        metrics.append(metric)
    seen: dict[tuple[str, str], str] = {}
    for metric in metrics:
        key = (metric.name, metric.protocol_hash())
        if key in seen:
            raise ConfigError(f"metrics: {metric.name} is asked for twice; leave one")
        seen[key] = metric.name
    return metrics


def _leaves(node: Mapping[str, Any], name: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    if "_target_" in node:
        yield name, node
        return
    for key, value in node.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{name}.{key}")
        elif value is not None:
            raise ConfigError(f"{name}.{key}: got {value!r}, expected a metric's settings")


def _made(node: Any, shared: dict[str, Any]) -> Any:
    """The value of a setting: parts made, or taken from those with the same settings; everything else as it is."""
    if isinstance(node, list):
        return [_made(item, shared) for item in node]
    if not isinstance(node, Mapping):
        return node
    if "_target_" not in node:
        return {key: _made(value, shared) for key, value in node.items()}
    key = json.dumps(node, sort_keys=True)
    if key not in shared:
        shared[key] = _assembled(node, shared)
    return shared[key]


def _assembled(node: Mapping[str, Any], shared: dict[str, Any]) -> Any:
    """A new object of a node. Its parts are handed over as they are: Hydra would copy them on their way in."""
    if node.get("_partial_"):
        return build(dict(node))
    arguments = {key: _made(value, shared) for key, value in node.items() if not key.startswith("_")}
    make = build({"_target_": node["_target_"], "_partial_": True})
    try:
        return make(**arguments)
    except TypeError as error:
        raise ConfigError(f"{node['_target_']}: {' '.join(str(error).split())}") from error


def _is_leaf(name: str, config_dir: Path | None) -> bool:
    """Whether an option of the group is a single metric."""
    folders = [config_folder(), *([] if config_dir is None else [config_dir])]
    for folder in reversed(folders):
        path = folder / _GROUP / f"{name}.yaml"
        if path.is_file():
            return any(line.startswith("_target_:") for line in path.read_text(encoding="utf-8").splitlines())
    return False
