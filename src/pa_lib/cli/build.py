"""From composed config nodes to objects: the system, the pipeline, the metrics.

Metrics' parts with the same settings are one object, so that costly ones (face networks, optical flow) run once.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pa_lib.cli.compose import METRICS, ConfigError, as_trust, build, checked, named
from pa_lib.errors import SettingError, WeightsError, first_line
from pa_lib.setting_types import check_partial, wrong_types
from pa_lib.targets import check_roles

if TYPE_CHECKING:
    from lightning import Callback

    from pa_lib.metrics import AbstractMetric
    from pa_lib.modules import AbstractAnonymizer
    from pa_lib.pipeline import AnonymizationPipeline


def module_settings(overrides: Sequence[str], node: dict[str, Any]) -> dict[str, Any]:
    """The settings below `module` that the command line names, as they were composed: dotted name -> value.

    Raises:
        ConfigError: One is deleted, and what was trained with it cannot do without.
    """
    if deleted := [override for override in overrides if override.startswith("~module")]:
        raise ConfigError(f"{deleted[0]}: weights bring their own settings, which can be changed and not deleted")
    named = [override.partition("=")[0].lstrip("+") for override in overrides]
    below = [
        name.replace("/", ".").removeprefix("module.") for name in named if name.startswith(("module.", "module/"))
    ]
    settings = {}
    for name in below:
        value: Any = node
        for part in name.split("."):
            value = value[part]
        settings[name] = value
    return settings


def build_module(config: dict[str, Any], changed: dict[str, Any]) -> AbstractAnonymizer:
    """The system: as its config says, or as it was trained, with the settings that the command line names changed.

    Raises:
        ConfigError: The config or the weights hold something else than a system, or parts of it have random weights.
        WeightsError: The weights are missing or do not fit.
    """
    from pa_lib.modules import AbstractAnonymizer

    if config["weights"] is None:
        module = build(config["module"], AbstractAnonymizer, "module")
        if untrained := module.untrained_slots():
            raise ConfigError(
                f"{type(module).__name__} would generate noise: {', '.join(sorted(untrained))} has random weights; "
                "give weights=FILE, a checkpoint of pa-train, or a backbone with weights of its own"
            )
    else:
        from pa_lib import load_module

        try:
            loaded: Any = load_module(config["weights"], changed=changed, trusted=config.get("trust") or ())
        except (SettingError, WeightsError) as error:
            raise type(error)(named(type(error)(as_trust(error)), "weights", config["weights"])) from error
        if not isinstance(loaded, AbstractAnonymizer):
            raise ConfigError(f"weights={config['weights']} holds a {type(loaded).__name__}, which does not anonymize")
        module = loaded
    return _on_device(module, config["device"])


def _on_device(module: Any, device: str) -> AbstractAnonymizer:
    """The system on the device it is to work on; one without weights works wherever the frames are."""
    anonymizer: AbstractAnonymizer = module
    if not hasattr(module, "to"):
        return anonymizer
    import torch

    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        module.eval().to(device)
    except (RuntimeError, AssertionError) as error:
        raise SettingError(f"device={device}: {first_line(error)}; device=cpu works everywhere") from error
    return anonymizer


def build_pipeline(config: dict[str, Any], module: AbstractAnonymizer) -> AnonymizationPipeline:
    """The walk over a video, with the parts that the config names."""
    from pa_lib.contracts import FaceNetwork
    from pa_lib.people import FaceRecognizer
    from pa_lib.pipeline import AnonymizationPipeline, SearchSettings
    from pa_lib.video import Limits, WriteSettings

    people = config["people"]
    recognizer = people.get("recognizer")
    return AnonymizationPipeline(
        **{name: build_part(people, name) for name in ("finder", "tracker", "chooser", "masker")},
        module=module,
        identity=lambda: build(config["identity"], FaceNetwork, "identity"),
        recognizer=build(recognizer, FaceRecognizer, "people.recognizer") if recognizer else None,
        search=checked(SearchSettings, people["search"], "people.search"),
        limits=checked(Limits, config["limits"], "limits"),
        write=checked(WriteSettings, config["write"], "write"),
    )


def build_part(people: Mapping[str, Any], name: str) -> Any:
    """A part of the search for people: the ``finder``, ``tracker``, ``chooser`` or ``masker`` of a config's ``people``.

    Raises:
        PaLibError: It is something else, or a setting of it is wrong.
    """
    from pa_lib import people as parts

    return build(people[name], getattr(parts, f"Abstract{name.title()}"), f"people.{name}")


def build_callbacks(config: Mapping[str, Any]) -> list[Callback]:
    """The callbacks of a training config, in its order; those with metrics get them as `build_metrics` makes them."""
    from lightning import Callback

    callbacks: list[Callback] = []
    for name, node in (config["callbacks"] or {}).items():
        if not node:
            continue
        if isinstance(node.get("metrics"), Mapping):  # Hydra would copy the metrics, and their parts, on their way in
            rest = {key: value for key, value in node.items() if key != "metrics"}
            make = build({**rest, "_partial_": True}, Callable[..., Callback], f"callbacks.{name}")
            check_partial(make, f"callbacks.{name}")
            callbacks.append(make(metrics=build_metrics(node["metrics"])))
        else:
            callbacks.append(build(node, Callback, f"callbacks.{name}"))
    return callbacks


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
    for name, leaf in _leaves(node or {}, METRICS):
        try:
            check_roles(leaf, AbstractMetric, name)
        except SettingError as error:
            raise ConfigError(str(error)) from error
        metrics.append(assembled(leaf, shared))
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


def made(node: Any, shared: dict[str, Any]) -> Any:
    """The value of a setting: parts made, or taken from those with the same settings; everything else as it is."""
    if isinstance(node, list):
        return [made(item, shared) for item in node]
    if not isinstance(node, Mapping):
        return node
    if "_target_" not in node:
        return {key: made(value, shared) for key, value in node.items()}
    key = json.dumps(node, sort_keys=True)
    if key not in shared:
        shared[key] = assembled(node, shared)
    return shared[key]


def assembled(node: Mapping[str, Any], shared: dict[str, Any]) -> Any:
    """A new object of a node. Its parts are handed over as they are: Hydra would copy them on their way in."""
    if node.get("_partial_"):
        return build(dict(node))
    arguments = {key: made(value, shared) for key, value in node.items() if not key.startswith("_")}
    make = build({"_target_": node["_target_"], "_partial_": True})
    try:
        return make(**arguments)
    except TypeError as error:
        wrong = next((f"{name}: {text}" for name, text in wrong_types(make.func, arguments)), "")
        raise ConfigError(f"{node['_target_']}: {wrong or ' '.join(str(error).split())}") from error
