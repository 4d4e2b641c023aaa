"""deface 1.5.0 in an environment of its own, as a yardstick: its command, its boxes, the pixels that it replaces."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from _bench import WORK
from numpy.typing import NDArray

VERSION = "1.5.0"
THRESHOLD = 0.2  # its own default
MARGIN = 0.3  # its default mask scale 1.3 adds 0.3 of the box on each of the four sides
_BOXES = """
import json, sys
import imageio.v2 as imageio
from deface.centerface import CenterFace
scale, threshold, *paths = sys.argv[1:]
detector = CenterFace(in_shape=None if scale == "full" else tuple(int(side) for side in scale.split("x")))
found = [detector(imageio.imread(path)[:, :, :3], threshold=float(threshold))[0][:, :4].tolist() for path in paths]
json.dump(found, open(sys.stdin.read().strip(), "w"))
"""


def environment() -> Path:
    """The folder of programs of deface's own environment; made under work/ where PA_DEFACE_VENV names none."""
    folder = Path(os.environ.get("PA_DEFACE_VENV", WORK / "deface_venv"))
    programs = folder / "bin"
    if not (programs / "deface").exists():
        print(f"installing deface {VERSION} into an environment of its own", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        # with onnx and onnxruntime it takes its fast way
        subprocess.run([programs / "pip", "install", "-q", f"deface=={VERSION}", "onnx", "onnxruntime"], check=True)
    return programs


def command(source: Path, output: Path, *options: str) -> list[str]:
    """Its command line, defaults but for `options`."""
    return [str(environment() / "deface"), str(source), "-o", str(output), *options]


def boxes(images: Sequence[Path], scale: str = "full") -> list[NDArray[np.float64]]:
    """What its detector finds in each image, shape n 4, x0 y0 x1 y1 px."""
    WORK.mkdir(exist_ok=True)
    answer = WORK / "deface_boxes.json"
    program = [str(environment() / "python"), "-c", _BOXES, scale, str(THRESHOLD), *map(str, images)]
    subprocess.run(program, input=str(answer), text=True, check=True, stdout=subprocess.DEVNULL)
    return [np.array(found, dtype=float).reshape(-1, 4) for found in json.loads(answer.read_text())]


def replaced(found: NDArray[np.float64], height: int, width: int) -> NDArray[np.bool_]:
    """The pixels that it replaces: its default ellipse in the enlarged box, cut one pixel before the border."""
    mask = np.zeros((height, width), dtype=bool)
    for x0, y0, x1, y1 in found.astype(int):
        wide, high = MARGIN * (x1 - x0), MARGIN * (y1 - y0)
        left, top, right, bottom = np.round([x0 - wide, y0 - high, x1 + wide, y1 + high]).astype(int)
        left, top, right, bottom = max(0, left), max(0, top), min(width - 1, right), min(height - 1, bottom)
        across, down = (right - left) // 2, (bottom - top) // 2
        if across <= 0 or down <= 0:
            continue
        rows = np.arange(2 * down) - down
        columns = np.arange(2 * across) - across
        inside = (rows[:, None] / down) ** 2 + (columns[None] / across) ** 2 < 1
        mask[top : top + 2 * down, left : left + 2 * across] |= inside
    return mask
