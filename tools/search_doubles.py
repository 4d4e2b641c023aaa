"""Look for morphs that the identity network takes for different people, all of them and all photographs.

    python tools/search_doubles.py --mesh-python PYTHON --out recipes.json [--wheel FILE] [--number 9600] [--seed 2]
                                   [--refused NUMBERS]

Draws recipes at random, renders them small, and keeps the largest set found in which any two are farther apart than
`LEAST`, a little above the network's threshold, since full size and compression move identities. Then it is for the
eye: whatever does not look like a photograph is refused by its number in a second run, which takes others in its place.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

TOOLS = Path(__file__).parent
sys.path.insert(0, str(TOOLS))

from doubles.heads import Heads  # noqa: E402
from doubles.search import Searcher, as_json, as_text, chosen, from_json, oddness  # noqa: E402
from pack_doubles import fetched  # noqa: E402

PHOTOGRAPHS = ("P001", "P002", "P005", "P006", "P007", "P009")  # beyond 0.6 of each other
AVOIDED = ("P003",)  # looks like a real person: no double, and no morph may be near
LEAST = 0.62
MOST_ODD = 14.0
BATCH = 32


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--wheel", type=Path, help="openpeople's wheel; downloaded where none is given")
    parser.add_argument("--mesh-python", required=True, help="a Python with mediapipe")
    parser.add_argument("--out", type=Path, required=True, help="where the recipes go")
    parser.add_argument("--number", type=int, default=9600, help="of recipes that are tried; default: %(default)s")
    parser.add_argument("--seed", type=int, default=2, help="default: %(default)s")
    parser.add_argument("--refused", type=int, nargs="*", default=[], help="numbers of recipes that did not look right")
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        wheel = given.wheel or fetched(Path(folder))
        meshes = Path(folder) / "meshes.npz"
        subprocess.run([given.mesh_python, str(TOOLS / "doubles" / "meshes.py"), str(wheel), str(meshes)], check=True)
        searcher = Searcher(Heads(wheel, meshes).fronts)
    random = np.random.default_rng(given.seed)
    recipes = [from_json(as_json(searcher.drawn(random))) for _ in range(given.number)]
    parts = [searcher.identities(recipes[start : start + BATCH]) for start in range(0, given.number, BATCH)]
    identities = np.concatenate(parts)
    fixed = searcher.embed([searcher.chip(searcher.morpher.faces[name]) for name in PHOTOGRAPHS + AVOIDED])
    away = np.linalg.norm(identities[:, None] - fixed[None], axis=2).min(axis=1)
    odd = np.array([oddness(recipe) for recipe in recipes])
    allowed = (away > LEAST) & (odd < MOST_ODD)
    allowed[list(given.refused)] = False
    numbers = np.nonzero(allowed)[0]
    kept = sorted(int(numbers[row]) for row in chosen(identities[numbers], LEAST, 0.3 * odd[numbers]))
    morphs = {f"M{place:03d}": recipes[number] for place, number in enumerate(kept, 1)}
    given.out.write_text(as_text(PHOTOGRAPHS, morphs), encoding="utf-8")
    print(f"{len(kept)} of {given.number}: {' '.join(str(number) for number in kept)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
