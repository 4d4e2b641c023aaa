"""The system that ships: a small painter of heads with its weights, which needs no download and no training."""

from __future__ import annotations

from pathlib import Path

from pa_lib.checkpoint import load_module
from pa_lib.errors import PaLibError
from pa_lib.modules.systems.bodies import Body
from pa_lib.modules.systems.passersby.system import PassersbyAnonymizer
from pa_lib.pretrained import asset_path

ASSET = "passersby_compact.safetensors"


def embedded_passersby(
    *, steps: int, body: Body, identity_push: float = 0.0, weights: str | None = None
) -> PassersbyAnonymizer:
    """The compact Passersby-Anonymizer, rebuilt by the config that is stored with its weights.

    What it was trained for stays as it is stored; only what may be chosen anew with every video can be set.

    Args:
        steps: Evaluations of the network for every crop, see `Sampler`. Time is proportional to it.
        body: What becomes of bodies, see `PassersbyAnonymizer`. The shipped network has learned heads, so ``fill``,
            ``mosaic`` or ``keep``.
        identity_push: See `PassersbyAnonymizer`.
        weights: Path of a file of one's own in the place of the shipped one, as `pa_lib.checkpoint.save_module` or
            ``pa-train`` write it; its config is stored with it too.

    Returns:
        In evaluation mode, on the CPU. Its slots have the file as their `Origin`: they do not begin with random
        weights, and those that stay frozen are left out of the checkpoints of a training that begins here.

    Raises:
        PaLibError: The file is missing, damaged or holds another system, or a setting is out of range.
    """
    path = asset_path(ASSET) if weights is None else Path(weights).expanduser()
    system = load_module(path, changed={"sampler.steps": steps, "body": body, "identity_push": identity_push})
    if not isinstance(system, PassersbyAnonymizer):
        raise PaLibError(f"{path} holds a {type(system).__name__}, expected a PassersbyAnonymizer; give it as weights=")
    system.comes_from(path)
    return system
