"""Make the picture at the top of the README, out of the demo: originals above, results below.

make demo
python tools/make_readme_picture.py .demo/park.mp4 [--frames 45 85 120] [--out docs/images/demo.jpg]
"""

from __future__ import annotations

import argparse
import io
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from pa_lib.reports.contact_sheet import GAP_PX, Strip
from pa_lib.video import probe, read_frames

WIDTH_PX = 1280
MOST_BYTES = 250_000
OUT = Path(__file__).parents[1] / "docs" / "images" / "demo.jpg"


def picture(original: Path, anonymized: Path, frames: Sequence[int]) -> Image.Image:
    """Frames side by side, those of the result below those of the original."""
    before, after = probe(original), probe(anonymized)
    strip = Strip.of("", len(frames), before.height / before.width, room=WIDTH_PX)
    for one, two in zip(read_frames(before), read_frames(after), strict=True):
        if one.index in frames:
            strip.add(one, two)
    across, down = (side + GAP_PX for side in strip.shape)
    whole = Image.new("RGB", (len(frames) * across - GAP_PX, 2 * down - GAP_PX), "white")
    for column, (_, *pair) in enumerate(strip.pairs):
        for row, shown in enumerate(pair):
            if shown is not None:
                whole.paste(shown, (column * across, row * down))
    return whole


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the picture, as good as its size allows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clip", type=Path, help="the demo's clip, with its result beside it")
    parser.add_argument("--frames", type=int, nargs="+", default=[45, 85, 120])
    parser.add_argument("--out", type=Path, default=OUT)
    given = parser.parse_args(arguments)
    whole = picture(given.clip, given.clip.with_name(f"{given.clip.stem}.anonymized.mp4"), given.frames)
    for quality in range(92, 40, -4):
        file = io.BytesIO()
        whole.save(file, "JPEG", quality=quality, optimize=True)
        if len(file.getvalue()) <= MOST_BYTES:
            break
    given.out.write_bytes(file.getvalue())
    print(f"{given.out}: {whole.width} x {whole.height}, {len(file.getvalue()):,} bytes, quality {quality}")


if __name__ == "__main__":
    main()
