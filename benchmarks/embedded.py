"""All values of the embedded default for its model card, from a weights file.

python benchmarks/embedded.py                                        the weights that ship, all but the attack
python benchmarks/embedded.py --weights runs/…/last.ckpt             others
python benchmarks/embedded.py --only parrot                          the attacker who learns: an hour or more
python benchmarks/embedded.py --only faces clips --photos 32         some parts of less, to try it out: not published

What was measured before by the same weights, settings and protocols is kept in benchmarks/work and shown with the rest,
so a run that was stopped goes on; where nothing is kept, parts that are not asked for stay as in the last result of the
same weights. Speed is only meaningful on a quiet machine.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from _bench import RESULTS, Table, publish
from embedded_clips import clips, clips_table, speed, speed_table
from embedded_faces import faces, faces_table, memorization, memorization_table
from embedded_parrot import parrot, parrot_table
from embedded_weights import Record, Weights

PARTS = ("faces", "clips", "memorization", "speed", "parrot")
ASSETS = Path(__file__).resolve().parents[1] / "src" / "pa_lib" / "assets"
EMBEDDED = "passersby_compact.safetensors"


def earlier(weights: Weights) -> dict[str, Record]:
    """The parts of the last result, if it is one of the same weights and settings."""
    path = RESULTS / "embedded.json"
    values = json.loads(path.read_text())["values"] if path.is_file() else {}
    measured = {name: values.get("weights", {}).get(name) for name in weights.settings}
    return {part: values[part] for part in PARTS if part in values} if measured == weights.settings else {}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--weights", type=Path, default=ASSETS / EMBEDDED, help="a .ckpt or .safetensors")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS[:-1])
    parser.add_argument("--steps", type=int, help="of the sampler; what the weights bring if not given")
    parser.add_argument("--parrot-steps", type=int, default=5, help="of the sampler, for the attack")
    parser.add_argument(
        "--photos", type=int, help="held-out photos (faces), photos attacked (parrot); all if not given"
    )
    parser.add_argument("--heads", type=int, default=1000, help="generated for memorization, of each kind")
    parser.add_argument("--training", type=int, help="training faces to compare with; all if not given")
    parser.add_argument("--frames", type=int, help="of each real clip; 32 if not given")
    parser.add_argument("--pseudo", type=int, default=24, help="portraits under a moving camera")
    parser.add_argument("--large-frames", type=int, default=40, help="of the 1080p clip")
    parser.add_argument("--device", default="cpu", help="for faces and clips; speed is always the CPU's")
    asked = parser.parse_args(arguments)
    if not asked.weights.is_file():
        sys.exit(f"no weights at {asked.weights}: give --weights FILE")
    weights = Weights(asked.weights, asked.steps, asked.device)
    measured: dict[str, Record | None] = {
        "faces": faces(weights, asked.photos, "faces" in asked.only),
        "clips": clips(weights, asked.frames, asked.pseudo, "clips" in asked.only),
        "memorization": memorization(weights, asked.heads, asked.training, "memorization" in asked.only),
        "speed": speed(weights, asked.large_frames, "speed" in asked.only),
        "parrot": parrot(weights, asked.parrot_steps, asked.photos, "parrot" in asked.only),
    }
    before = earlier(weights)
    measured = {part: before.get(part) if record is None else record for part, record in measured.items()}
    tables: list[Table] = []
    goals: dict[str, bool] = {}
    for part, told in (
        ("faces", faces_table),
        ("clips", clips_table),
        ("memorization", memorization_table),
        ("speed", speed_table),
        ("parrot", parrot_table),
    ):
        record = measured[part]
        if record is not None:
            shown, met = told(record)
            tables += shown if isinstance(shown, list) else [shown]
            goals |= met
    values: dict[str, Any] = {
        "goals": goals,
        "weights": {**weights.settings, "file": weights.path.name, "parameters": weights.n_parameters},
        "missing": [part for part, record in measured.items() if record is None],
        **{part: record for part, record in measured.items() if record is not None},
    }
    sizes = ("photos", "heads", "training", "frames", "pseudo", "large_frames")
    if any(getattr(asked, size) != parser.get_default(size) for size in sizes):
        print("\n\n".join(table.markdown() for table in tables))
        print(f"\n{json.dumps(goals, indent=1)}\na trial with other sizes: nothing is published")
        return
    publish("embedded", tables, values)


if __name__ == "__main__":
    main()
