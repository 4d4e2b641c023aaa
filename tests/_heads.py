"""A painter of heads in miniature, as the config that builds it, and people with heads and bodies for it."""

from __future__ import annotations

import copy
from typing import Any

import torch

from pa_lib.cli.compose import build
from pa_lib.contracts import Clip, ClipMasks, PersonMask
from pa_lib.functional.draws import normal
from pa_lib.modules import PassersbyAnonymizer

HEIGHT, WIDTH, N_FRAMES = 48, 64, 5
_OURS = "pa_lib.modules."

CONFIG: dict[str, Any] = {
    "_target_": f"{_OURS}PassersbyAnonymizer",
    "backbone": {
        "_target_": f"{_OURS}CompactUNet",
        "channels": 48,
        "condition_channels": 49,
        "widths": [8, 16],
        "layers": 1,
        "attention_levels": [1],
        "head_width": 8,
    },
    "autoencoder": {"_target_": f"{_OURS}Patchify", "patch": 4},
    "text": {"_target_": f"{_OURS}NoText"},
    "adapter": {"_target_": f"{_OURS}SpatialContentAdapter", "rank": 2},
    "temporal": {"_target_": f"{_OURS}TemporalContentStabilizer", "heads": 2},
    "loss": {"_target_": f"{_OURS}MaskedDiffusionLoss"},
    "diffusion": {"_target_": f"{_OURS}DiffusionProcess", "prediction": "sample"},
    "sampler": {"_target_": f"{_OURS}Sampler", "steps": 2},
    "crops": {"_target_": f"{_OURS}CropAligner", "side": 16},
    "mask_aware": {"_target_": f"{_OURS}MaskAwareTraining", "augmentation": {"_target_": f"{_OURS}MaskAugmentation"}},
    "windows": {"_target_": f"{_OURS}Windows", "frames": 3, "overlap": 1, "chunk": 6, "chunk_overlap": 2},
    "body": "generate",
    "optimizer": {"_target_": "torch.optim.AdamW", "_partial_": True, "lr": 1.0e-3},
    "trainable": ["backbone", "adapter", "temporal"],
    "seed": 0,
}


def config(**changed: Any) -> dict[str, Any]:
    """The config with other values at its top."""
    return copy.deepcopy(CONFIG) | changed


def painter(**changed: Any) -> PassersbyAnonymizer:
    """The system, always with the same weights; its guests do something."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        made: PassersbyAnonymizer = build(config(**changed))
    with torch.no_grad():
        for at, weight in enumerate(made.parameters()):
            if weight.ndim > 1:
                weight.copy_(normal(weight.shape, at) / weight[0].numel() ** 0.5)
    return made.eval()


def clip(first_frame: int = 0, n_frames: int = N_FRAMES) -> Clip:
    """Noise: nothing in it is like anything that a network might paint."""
    frames = torch.randint(0, 256, (n_frames, 3, HEIGHT, WIDTH), generator=torch.Generator().manual_seed(1))
    return Clip(frames.byte(), first_frame)


def people(n_frames: int = N_FRAMES) -> ClipMasks:
    """One with head and body, their edges soft; one whose face is seen in frame 1 only; one with a face alone."""
    soft = torch.ones(24, 12)
    soft[:, 0] = 0.5
    masks = []
    for at in range(n_frames):
        masks += [PersonMask(1, at, 16, 10 + at, soft), PersonMask(1, at, 8, 11 + at, torch.ones(12, 10), "face")]
        masks.append(PersonMask(2, at, 14, 40, torch.ones(26, 12)))
        masks.append(PersonMask(3, at, 2, 52, torch.full((9, 8), 0.7), "face"))
    masks.append(PersonMask(2, 1, 10, 41, torch.ones(10, 9), "face"))
    return ClipMasks(tuple(masks), n_frames, HEIGHT, WIDTH)
