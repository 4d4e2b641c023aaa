"""Checks of annotations give the same answer in every run."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pa_lib

SOURCE = Path(pa_lib.__file__).parent
OF_ANY_LENGTH = {"Collection", "Iterable", "Mapping", "Sequence", "dict", "frozenset", "list", "set"}
ALIKE = {  # items that have one size: which of them is checked makes no difference
    "callbacks/preview.py": {"3 _ 3 h w"},
    "functional/flow.py": {"h w"},
    "modules/backbones/context.py": {"b t _ _ _"},
    "modules/diffusion/variance_preserving.py": {" n_steps"},
    "modules/reference/scene_plate.py": {"h w"},
    "modules/temporal/attention.py": {"n t c"},
    "pipeline/replaced.py": {"1 3 h w"},
}


def test_items_of_a_container_share_their_named_dimensions() -> None:
    """beartype looks at one item, drawn at random: a name for a size that varies fails in some runs only."""
    found: dict[str, set[str]] = {}
    for path in SOURCE.rglob("*.py"):
        shapes = set(_shapes_of_items(path.read_text(encoding="utf-8")))
        if shapes:
            found[path.relative_to(SOURCE).as_posix()] = shapes
    assert found == ALIKE


def _shapes_of_items(code: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(code)):
        if not (isinstance(node, ast.Subscript) and isinstance(node.value, ast.Name)):
            continue
        inside = list(ast.walk(node.slice))
        is_long = any(isinstance(part, ast.Constant) and part.value is Ellipsis for part in inside)
        if node.value.id in OF_ANY_LENGTH or (node.value.id == "tuple" and is_long):
            for part in inside:
                if isinstance(part, ast.Constant) and isinstance(part.value, str) and re.search("[a-zA-Z]", part.value):
                    yield part.value
