"""The design page draws the house as it is: its layers are those that are checked, its walks name files that exist."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "design.md").read_text(encoding="utf-8")
MOST_FILES = 9  # what a reader can hold in one walk


def walks() -> dict[str, list[str]]:
    """Title of each walk -> the files that it names first in its numbered lines."""
    section = PAGE.partition("## Four walks")[2].partition("\n## ")[0]
    parts = re.split(r"^\*\*(.+?)\*\*, `", section, flags=re.MULTILINE)[1:]
    return {
        title: re.findall(r"^\d+\. `([^`]+)`", text, flags=re.MULTILINE)
        for title, text in zip(parts[::2], parts[1::2], strict=True)
    }


def drawn(text: str) -> list[set[str]]:
    """Names in a drawing, line by line."""
    lines = [set(re.findall(r"[a-z_]{3,}", line.split("   never")[0])) for line in text.splitlines()]
    return [names for names in lines if names]


def layers(name: str) -> list[set[str]]:
    """The layers of one contract of import-linter."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"][
        "contracts"
    ]
    (contract,) = (one for one in contracts if one["name"] == name)
    return [{part.strip().removeprefix("pa_lib.") for part in re.split(r"[|:]", row)} for row in contract["layers"]]


def test_there_are_four_walks() -> None:
    assert [title.split()[-1] for title in walks()] == ["video", "step", "metric", "ablation"]


@pytest.mark.parametrize("title", walks())
def test_a_walk_names_few_files_and_each_is_there(title: str) -> None:
    files = walks()[title]
    assert 3 < len(files) <= MOST_FILES
    for file in files:
        assert (ROOT / "src" / "pa_lib" / file).is_file() or (ROOT / file).is_file(), file


def test_the_drawn_layers_are_the_checked_ones() -> None:
    house = PAGE.partition("```\n")[2].partition("```")[0]
    assert drawn(house) == layers("one-way layers")


def test_the_drawn_parts_of_modules_are_the_checked_ones() -> None:
    parts = PAGE.partition("Inside `modules`:")[2].partition("```\n")[2].partition("```")[0]
    names = [set(re.findall(r"[a-z_]{3,}", re.split(r" {8,}", line.strip())[0])) for line in parts.splitlines()]
    assert names == layers("parts below systems")
