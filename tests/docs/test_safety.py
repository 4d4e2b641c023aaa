"""The safety page states no promise without the tests that hold it, and names only tests that exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "safety.md").read_text(encoding="utf-8")
PROMISED = PAGE.partition("## Promised, and tested")[2].partition("\n## ")[0]
PROMISES = re.split(r"^- ", PROMISED, flags=re.MULTILINE)[1:]
NAMED = re.compile(r"`((?:unit|integration|contract|docs)/[\w/]+\.py)::(\w+)`")


def test_the_page_promises_something() -> None:
    assert len(PROMISES) >= 8
    assert all(promise.startswith("**") for promise in PROMISES)


@pytest.mark.parametrize("promise", PROMISES, ids=lambda promise: promise[2:40].rstrip())
def test_every_promise_has_a_test_that_exists(promise: str) -> None:
    named = NAMED.findall(promise)
    assert named, "no test is named"
    for file, test in named:
        text = (ROOT / "tests" / file).read_text(encoding="utf-8")
        assert re.search(rf"^ *def {test}\(", text, flags=re.MULTILINE), f"{file} has no {test}"
