"""The systems that are compared: doubles, their variants, and what there was before, as settings of pa-anonymize."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from embedded_weights import marked

import pa_lib
from pa_lib.cli.build import build_module, module_settings
from pa_lib.cli.compose import compose
from pa_lib.modules import AbstractAnonymizer

PEOPLE = ("people/chooser=all", "people/masker=heads")
"""Everybody's whole head, in all rows: they replace the same pixels, but for what doubles cover beyond them."""
_CLOSED_FORM = ("module=doubles", "module/reference=doubles_closed_form")
OURS = "doubles"
OLD = "old weights"
"""The network that shipped before doubles, and generated heads. Its file left the library; its values stay."""
SETTINGS: Mapping[str, tuple[str, ...]] = {
    OURS: ("module=doubles",),
    "light in closed form": _CLOSED_FORM,
    "light of their own": (
        *_CLOSED_FORM,
        "~module.reference.light",
        "+module.reference.light._target_=pa_lib.modules.NoLight",
    ),
    "joined in one step": ("module=compact",),
    "joined in five steps": ("module=compact", "module.steps=5"),
    OLD: ("module=passersby", "weights=passersby_compact_heads.safetensors"),
    "blur": ("module=conventional",),
    "mosaic": ("module=conventional", "module.method=mosaic"),
}


@dataclass(frozen=True)
class Row:
    """One system.

    Args:
        name: Its name in the tables.
        settings: Settings of pa-anonymize; `PEOPLE` come before them.
    """

    name: str
    settings: tuple[str, ...]

    @cached_property
    def config(self) -> dict[str, Any]:
        """The program's config."""
        return compose("anonymize", ["input=none", "device=cpu", *PEOPLE, *self.settings])

    def system(self) -> AbstractAnonymizer:
        """The system as the program builds it."""
        is_loaded = self.config["weights"] is not None
        return build_module(self.config, module_settings(self.settings, self.config["module"]) if is_loaded else {})

    @property
    def mark(self) -> str:
        """Ten digits that stand for everything that decides its pictures: settings, weights and the library."""
        weights = self.config["weights"]
        file = None if weights is None else Path(weights)
        digest = None if file is None or not file.is_file() else hashlib.sha256(file.read_bytes()).hexdigest()
        return marked(self.config["module"], self.config["people"], digest, code())


def measured_by(*files: str) -> str:
    """Ten digits that stand for the code that measures."""
    return marked(*(Path(file).read_text() for file in files))


@cache
def code() -> str:
    """Ten digits that stand for the library's code and its assets. What was measured with other code is not taken."""
    folder = Path(pa_lib.__file__).parent
    files = [*sorted(folder.rglob("*.py")), *sorted((folder / "assets").iterdir())]
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.relative_to(folder).as_posix().encode() + file.read_bytes())
    return digest.hexdigest()[:10]
