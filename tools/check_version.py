"""Fail when the newest released heading of CHANGELOG.md is not the package's version."""

import re
import sys
from pathlib import Path

from pa_lib import __version__

ROOT = Path(__file__).parents[1]


def main() -> None:
    """Compare the two and leave with a message where they differ."""
    headings = re.findall(r"^## \[(\d[^\]]*)\]", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    if not headings or headings[0] != __version__:
        found = headings[0] if headings else "no version heading"
        sys.exit(f"CHANGELOG.md: got {found}, expected {__version__} as in src/pa_lib/__init__.py; bring them together")
    print(f"version {__version__} = newest heading of CHANGELOG.md")


if __name__ == "__main__":
    main()
