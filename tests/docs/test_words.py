"""Texts use the field's standard terms: words that they may not contain, and arguments that are described."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = sorted((ROOT / "src" / "pa_lib").rglob("*.py"))
DOCUMENTS = [
    ROOT / "README.md",
    *(path for path in sorted((ROOT / "docs").rglob("*.md")) if path.name != "benchmarks.md"),
    *sorted((ROOT / "src").rglob("*.md")),
]
CONFIGS = sorted((ROOT / "conf").rglob("*.yaml"))

# Word -> what to write; for texts, comments, and everything that a user may see.
WORDS = {
    r"told|tells?|telling|untold": "is reported, states, distinguishes",
    r"nobody|somebody|anybody|whoever|whom": "no person, a person, unknown",
    r"paint(?:s|ed|ers?|ing)?": "generate, inpaint",
    r"yardsticks?": "baseline, reference",
    r"trembles?|veils?|steadiness": "jitter, haze, temporal smoothing",
    r"guests?": "adapter",
    r"anew": "again",
    r"surely|surest": "with high confidence",
    r"dealt": "distributed",
    r"mends?|mended": "fix, correct",
    r"hangs? on": "depends on",
    r"looked for": "searched for, detected",
    r"by hand of|worth nothing|to the brim|as filmed|likewise": "plain English",
}
# For prose only: in code these may be names, such as keys of a protocol.
PROSE = {
    r"figures": "values; people, for synthetic ones",
    r"judg(?:e|es|ed|ing)": "evaluate, measure",
}
OLD_NAMES = "renamed.py"  # lists them

FRAGMENT = re.compile(
    r"(?:Of|In|As|From|By|With|Without|To|On|At|Under|Below|Above|Along|Beside|Before|After|For|Within"
    r"|Its|Their|His|Her|Whose|Whom|Who|What|Which|Where|When|Why|How|Those|That|These|This|It|They"
    r"|True|False|None|Shapes?|px|u?int\d+|float\d+|Called|Not|Is|Gets|Takes|Expected|Higher|Lower|Larger|Smaller)\b"
    r"|[<>≥≤\[(\d]"
)
"""How a description begins that does not say what the argument is."""


def _unwanted(text: str, words: dict[str, str]) -> Iterator[str]:
    for pattern, instead in words.items():
        for match in re.finditer(rf"\b(?:{pattern})\b", text, re.IGNORECASE):
            yield f"'{match[0]}' (write: {instead})"


def _comments(source: str) -> Iterator[tuple[int, str]]:
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string


def _docstrings(tree: ast.Module) -> Iterator[tuple[ast.AST, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and (text := ast.get_docstring(node)):
            yield node, text


def problems_of_source(source: str) -> list[str]:
    """Unwanted words in a file's strings and comments, and arguments that are not described."""
    tree = ast.parse(source)
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            found += [f"{node.lineno}: {word}" for word in _unwanted(node.value, WORDS)]
    for line, comment in _comments(source):
        found += [f"{line}: {word}" for word in _unwanted(comment, WORDS | PROSE)]
    for node, text in _docstrings(tree):
        line = getattr(node, "lineno", 1)
        found += [f"{line}: {word}" for word in _unwanted(text, PROSE)]
        section = re.search(r"^Args:\n(.*?)(?:\n\s*\n|\Z)", text, re.MULTILINE | re.DOTALL)
        for name, description in re.findall(r"^    (\S[^:\n]*): +(.*)", section[1] if section else "", re.MULTILINE):
            if FRAGMENT.match(description):
                found.append(f"{line}: {name}: '{description[:40]}' does not say what the argument is")
    return found


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(ROOT / "src").as_posix())
def test_sources(path: Path) -> None:
    if path.name == OLD_NAMES:
        pytest.skip("lists the old names")
    problems = problems_of_source(path.read_text(encoding="utf-8"))
    assert problems == []


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_documents(path: Path) -> None:
    problems = list(_unwanted(path.read_text(encoding="utf-8"), WORDS | PROSE))
    assert problems == []


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.relative_to(ROOT / "conf").as_posix())
def test_comments_of_configs(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    problems = [*_unwanted(text, WORDS | PROSE), *re.findall(r"^ *\w+:.*# of .*", text, re.MULTILINE)]
    assert problems == []


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        ('"""What is told."""', "1: 'told'"),
        ("a = 1  # nobody knows", "1: 'nobody'"),
        ('raise ValueError(f"{x}: mend it")', "1: 'mend'"),
        ('def f():\n    """The figures."""', "1: 'figures'"),
        ('def f(a):\n    """F.\n\n    Args:\n        a: Of the crops, px.\n    """', "1: a: 'Of the crops, px.'"),
        ('class C:\n    """C.\n\n    Args:\n        a, b: In [0, 1].\n    """', "1: a, b: 'In [0, 1].'"),
        ('def f(a):\n    """F.\n\n    Args:\n        a: >= 0; 1 = all.\n    """', "1: a: '>= 0; 1 = all.'"),
    ],
)
def test_are_noticed(source: str, problem: str) -> None:
    (found,) = problems_of_source(source)
    assert found.startswith(problem)


def test_good_ones_pass() -> None:
    described = "Side length of the crops in pixels,\n            at least 16."
    assert not problems_of_source(f'def f(a):\n    """Sides.\n\n    Args:\n        a: {described}\n    """  # a figure')
