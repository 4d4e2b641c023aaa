"""The system that ships: a small generator of heads with its weights, which needs no download and no training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pa_lib.checkpoint import load_config, load_module
from pa_lib.errors import SettingError, WeightsError
from pa_lib.modules.systems.bodies import Body
from pa_lib.modules.systems.passersby.system import PassersbyAnonymizer
from pa_lib.paths import path_of
from pa_lib.pretrained import asset_path

ASSET = "passersby_compact.safetensors"
_PARTS = {
    "text": "pa_lib.modules.ClassifierFreeGuidance",
    "mean": "pa_lib.modules.MeanGuidance",
    "identity": "pa_lib.modules.IdentityGuidance",
}


def embedded_passersby(
    *, steps: int, body: Body, guidance: Mapping[str, Mapping[str, Any]] | None = None, weights: str | None = None
) -> PassersbyAnonymizer:
    """The compact Passersby-Anonymizer, rebuilt by the config that is stored with its weights.

    What it was trained for stays as it is stored; only what may differ from video to video can be set.

    Args:
        steps: Number of evaluations of the network for every crop, see `Sampler`. Time is proportional to it.
        body: Treatment of bodies, see `PassersbyAnonymizer`. The shipped network has learned heads, so ``fill``,
            ``mosaic`` or ``keep``.
        guidance: Name -> settings of that guidance, e.g. ``{"identity": {"strength": 0.1}}``; None leaves all of it as
            it is stored.
        weights: Path of a file of one's own in the place of the shipped one, as `pa_lib.checkpoint.save_module` or
            ``pa-train`` write it; its config is stored with it too.

    Returns:
        In evaluation mode, on the CPU. Its slots have the file as their `Origin`: they do not begin with random
        weights, and those that stay frozen are left out of the checkpoints of a training that begins here.

    Raises:
        PaLibError: The file is missing, damaged or holds another system, or a setting is out of range.
    """
    path = asset_path(ASSET) if weights is None else path_of(weights)
    changed: dict[str, Any] = {"sampler.steps": steps, "body": body}
    if guidance:
        changed["guidance"] = _guided(load_config(path).get("guidance") or {}, guidance)
    system = load_module(path, changed=changed)
    if not isinstance(system, PassersbyAnonymizer):
        raise WeightsError(
            f"{path} holds a {type(system).__name__}, expected a PassersbyAnonymizer; give it as weights="
        )
    system.comes_from(path)
    system.rebuilt_by(embedded_passersby, steps=steps, body=body, guidance=guidance, weights=weights)
    return system


def _guided(stored: Mapping[str, Any], changed: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The stored guidance with other settings; what a file does not have yet is added."""
    result = dict(stored)
    for name, settings in changed.items():
        if name not in result and name not in _PARTS:
            raise SettingError(f"unknown guidance {name!r}; choose {', '.join(sorted({*_PARTS, *result}))}")
        result[name] = {**result.get(name, {"_target_": _PARTS.get(name)}), **settings}
    return result
