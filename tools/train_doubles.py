"""Train the network that joins doubles to their scene, at 128 px, with one four times as large: minutes on a large GPU.

    python tools/train_doubles.py faces.zip runs/doubles                      # about eight minutes of a data-centre GPU
    python tools/train_doubles.py faces.zip runs/try --device cpu --steps 2   # does everything run?

The three recipes compact_1_backbone, compact_2_spatial and compact_3_temporal from random weights, one after the other,
each from the checkpoint of the one before. A stage that is complete is not run again, one that was stopped goes on.
Every stage ends after its share of the time, however many steps that are.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

LAST = Path("checkpoints") / "last.ckpt"
# Share of the time, steps, clips in a step. Steps are an estimate for an H100 or H200; the time is what counts.
STAGES = {
    "compact_1_backbone": (0.7, 4000, 96),
    "compact_2_spatial": (0.1, 400, 96),
    "compact_3_temporal": (0.2, 600, 12),
}
LARGE = (
    "module.crops.side=128",
    "module.backbone.widths=[192,320,384]",  # 54 M weights instead of 14 M
    "data.side=128",
    "trainer.enable_model_summary=false",
)


def commands(data: Path, out: Path, device: str, minutes: float, steps: int | None, n_workers: int) -> list[list[str]]:
    """The arguments of ``pa-train`` for each stage.

    Args:
        data: Portraits with an index, see `FaceDataModule`.
        out: Folder of the runs.
        device: ``gpu`` or ``cpu``.
        minutes: Time for all stages together.
        steps: Steps of every stage; None takes those that fill the time of a large GPU.
        n_workers: Processes that make clips.
    """
    made = []
    before: Path | None = None
    for stage, (share, n_steps, batch) in STAGES.items():
        folder = out / stage
        seconds = max(round(60 * minutes * share), 1)
        own = [
            f"experiment={stage}",
            f"trainer={device}",
            *LARGE,
            f"data.path={data}",
            f"data.n_workers={n_workers}",
            f"data.batch_size={batch if steps is None else 2}",
            f"trainer.max_steps={n_steps if steps is None else steps}",
            f"trainer.val_check_interval={500 if steps is None else steps}",
            f"+trainer.max_time={{seconds: {seconds}}}",
            f"output={folder}",
            "ckpt=last",
        ]
        if before is not None:
            own.append(f"init_from={before}")
        made.append(own)
        before = folder / LAST
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code of the stage that failed, or 0."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="portraits: a folder with index.tsv, or a zip of one")
    parser.add_argument("out", type=Path, help="folder of the runs")
    parser.add_argument("--device", choices=("gpu", "cpu"), default="gpu")
    parser.add_argument("--minutes", type=float, default=7.5, help="for all stages; default: %(default)s")
    parser.add_argument("--steps", type=int, help="of every stage, with two clips each: to see that it runs")
    parser.add_argument("--workers", type=int, default=12, help="processes that make clips; default: %(default)s")
    given = parser.parse_args(arguments)
    n_workers = given.workers if given.steps is None else 0
    minutes = given.minutes if given.steps is None else 24 * 60  # a trial ends by its steps
    for own in commands(given.data, given.out, given.device, minutes, given.steps, n_workers):
        print("pa-train", *own, flush=True)
        if code := subprocess.run([sys.executable, "-m", "pa_lib.cli.train", *own], check=False).returncode:
            return code
    print(f"packed by: python tools/pack_weights.py {given.out / list(STAGES)[-1] / LAST}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
