"""Pack a trained system as the weights that ship: half precision, with the config that rebuilds it, 40 MB at most.

    python tools/pack_weights.py runs/.../checkpoints/last.ckpt
    python tools/pack_weights.py runs/.../checkpoints/last.ckpt --manifest src/pa_lib/assets/manifest.json
    python tools/pack_weights.py runs/.../checkpoints/last.ckpt --slots reference --out .../doubles_light.safetensors

Where an average of the weights was trained, the average is packed. What only training needs (optimizer, schedule, which
slots learn) is left out of the config. Prints sha256 and size and the manifest's entry; with `--manifest` the entry is
written into it as well. The same checkpoint gives the same file byte for byte.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from pa_lib.checkpoint import external_prefixes, load_config, load_module, save_module
from pa_lib.errors import PaLibError
from pa_lib.modules.reference.light_transform import SHIPPED
from pa_lib.modules.systems.learned import AbstractLearnedAnonymizer
from pa_lib.stored import read

ASSETS = Path(__file__).parents[1] / "src" / "pa_lib" / "assets"
NAME = "passersby_compact.safetensors"
MOST_BYTES = 40_000_000
ONLY_FOR_TRAINING: dict[str, Any] = {
    "optimizer": None,
    "lr_schedule": None,
    "trainable": [],
    "has_gradient_checkpointing": False,
}


def pack(checkpoint: Path, out: Path, most_bytes: int = MOST_BYTES, slots: Sequence[str] | None = None) -> float:
    """Write the system of a checkpoint, or some of its slots, in half precision.

    Args:
        checkpoint: A ``.ckpt`` of ``pa-train``, or a ``.safetensors`` of `save_module`.
        out: Ends in ``.safetensors``. Replaced at once or, where the result would be too large, not at all.
        most_bytes: The largest file that may come of it.
        slots: Slots whose weights are written; None for all.

    Returns:
        The largest change of any weight by the lower precision, as a share of the largest weight of its tensor.

    Raises:
        PaLibError: The checkpoint cannot be rebuilt, parts of it lie in files that do not ship, or the result is too
            large.
    """
    config = load_config(checkpoint)
    left_out = {name: value for name, value in ONLY_FOR_TRAINING.items() if name in config}
    module = load_module(checkpoint, changed=left_out)
    elsewhere = [prefix.removesuffix(".") for prefix in external_prefixes(module)]
    origins = module.origins() if isinstance(module, AbstractLearnedAnonymizer) else {}
    elsewhere = [slot for slot in elsewhere if slot not in origins or origins[slot].path != SHIPPED]
    if elsewhere:
        raise PaLibError(
            f"{checkpoint}: {', '.join(sorted(elsewhere))} comes from a path of its own and would not be in the file; "
            "pack a system whose parts were all trained here"
        )
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent) as folder:
        packed = Path(folder) / out.name
        save_module(module, config | left_out, packed, slots=slots, dtype=torch.float16)
        n_bytes = packed.stat().st_size
        if n_bytes > most_bytes:
            raise PaLibError(
                f"{checkpoint}: {n_bytes:,} bytes in half precision, at most {most_bytes:,} may ship; "
                "train a smaller network (module.backbone.widths), or write it elsewhere with --most-bytes"
            )
        loss = _largest_change(module, read(packed).weights)
        if slots is None:
            load_module(packed)  # a file that cannot be rebuilt does not ship
        packed.chmod(0o644)  # what ships is for everybody to read
        os.replace(packed, out)
    return loss


def entry(out: Path, checkpoint: Path, what: str, licence: str, origin: str) -> dict[str, Any]:
    """What the manifest says about a packed file."""
    content = out.read_bytes()
    return {
        "what": what,
        "licence": licence,
        "origin": origin,
        "source_sha256": [hashlib.sha256(checkpoint.read_bytes()).hexdigest()],
        "sha256": hashlib.sha256(content).hexdigest(),
        "n_bytes": len(content),
    }


def into_manifest(manifest: Path, name: str, about: dict[str, Any]) -> None:
    """Write an entry into the manifest, in the place of one that is there."""
    entries = json.loads(manifest.read_text(encoding="utf-8"))
    entries[name] = about
    manifest.write_text(json.dumps(entries, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _largest_change(before: torch.nn.Module, packed: Mapping[str, torch.Tensor]) -> float:
    """Of any weight that was packed, as a share of the largest of its tensor."""
    changes = [
        float((tensor - packed[name].to(tensor)).abs().max() / tensor.abs().max().clamp_min(1e-30))
        for name, tensor in before.state_dict().items()
        if name in packed and tensor.is_floating_point() and tensor.numel()
    ]
    return max(changes, default=0.0)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path, help="a .ckpt of pa-train")
    parser.add_argument("--out", type=Path, default=ASSETS / NAME, help="default: %(default)s")
    parser.add_argument("--slots", nargs="+", help="slots whose weights are packed; default: all")
    parser.add_argument("--most-bytes", type=int, default=MOST_BYTES, help="default: %(default)s")
    parser.add_argument("--manifest", type=Path, help="manifest.json to write the entry into")
    parser.add_argument("--what", default="Passersby-Anonymizer, compact: generates new heads")
    parser.add_argument("--licence", default="Apache-2.0", help="SPDX name; default: %(default)s")
    parser.add_argument(
        "--origin",
        default="trained with pa_lib, experiments compact_1_backbone to compact_3_temporal",
        help="which data and commands it was trained by; default: %(default)s",
    )
    given = parser.parse_args(arguments)
    try:
        loss = pack(given.checkpoint, given.out, given.most_bytes, given.slots)
    except PaLibError as error:
        print(f"pack_weights: error: {error}", file=sys.stderr)
        return 1
    about = entry(given.out, given.checkpoint, given.what, given.licence, given.origin)
    print(f"{given.out}: {about['n_bytes']:,} bytes, sha256 {about['sha256']}")
    print(f"no weight changed by more than {loss:.2e} of the largest of its tensor")
    print(json.dumps({given.out.name: about}, indent=2, ensure_ascii=False))
    if given.manifest is not None:
        into_manifest(given.manifest, given.out.name, about)
        print(f"{given.manifest}: written")
    return 0


if __name__ == "__main__":
    sys.exit(main())
