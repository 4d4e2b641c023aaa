"""What the documents say exists, exists: links, make targets, settings, config options."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from pa_lib.cli.compose import compose, config_folder, option_groups

ROOT = Path(__file__).parents[2]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(document: Path) -> None:
    for link in re.findall(r"\]\(([^)#]+)", document.read_text(encoding="utf-8")):
        if "://" not in link:
            assert (document.parent / link).exists(), f"{document.name}: {link} leads nowhere"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_commands_compose(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    for verb, line in re.findall(r"^(?:\.venv/bin/)?pa-(anonymize|evaluate) (.+)$", text, re.MULTILINE):
        words = [word for word in shlex.split(line, comments=True) if not word.startswith("--")]
        assert compose(verb, words)


def test_settings_of_the_choosers_compose() -> None:
    text = (ROOT / "docs" / "anonymize.md").read_text(encoding="utf-8")
    for group, option in re.findall(r"`people/(\w+)=(\w+)", text):
        assert option in option_groups(config_folder())[f"people/{group}"]


def test_make_targets_exist() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    for document in DOCUMENTS:
        named = re.findall(r"^make (\w+)", document.read_text(encoding="utf-8"), re.MULTILINE)
        assert set(named) <= targets
    assert {"install", "check", "test", "demo", "docs", "bench", "build"} <= targets
