"""Write docs/benchmarks.md, and the values in model cards, from benchmarks/results/*.json: none is typed by hand.

python benchmarks/write_docs.py
"""

from __future__ import annotations

import json
import re
from typing import Any

from _bench import HERE, RESULTS, Table

ORDER = (
    "recall",
    "rates",
    "speed",
    "memory",
    "choice",
    "outlines",
    "scaling",
    "temporal",
    "passersby",
    "ablations",
    "fvd",
    "warping",
    "attackers",
    "comparison",
    "embedded",
    "doubles",
    "before_after",
)
INTRODUCTION = (HERE / "introduction.md").read_text() if (HERE / "introduction.md").exists() else ""


def section(record: dict[str, Any]) -> str:
    """One benchmark: how it was run, whether it reached its goals, its tables."""
    machine = record["machine"]
    libraries = ", ".join(f"{name} {number}" for name, number in machine["libraries"].items())
    lines = [
        f"## {record['benchmark'].replace('_', ' ').capitalize()}",
        "",
        f"`{record['command']}` on {record['date']}: {machine['cores']} cores ({machine['cpu']}), "
        f"{machine['memory_gib']} GiB, {machine['system']}, Python {machine['python']}, {libraries}; "
        f"load before the run {record['load_before']}.",
        "",
    ]
    goals = record["values"].get("goals", {})
    lines += [
        f"- {name.replace('_', ' ')}: {'reached' if is_met else '**not reached**'}" for name, is_met in goals.items()
    ]
    for table in tables_of(record):
        lines += ["", table]
    return "\n".join(lines) + "\n"


def tables_of(record: dict[str, Any]) -> list[str]:
    """Its tables as markdown."""
    tables = record["tables"]
    made = [Table(of["title"], tuple(of["columns"]), [tuple(row) for row in of["rows"]], of["notes"]) for of in tables]
    return [table.markdown().rstrip() for table in made]


def with_values(text: str, record: dict[str, Any]) -> str:
    """A page with the tables of a record between ``<!-- values of NAME -->`` and ``<!-- end of values -->``."""
    name = record["benchmark"]
    lines = [f"By `{record['command']}` on {record['date']}:", *tables_of(record)]
    return re.sub(
        rf"(<!-- values of {name} -->\n).*?(<!-- end of values -->)",
        lambda match: match[1] + "\n" + "\n\n".join(lines) + "\n\n" + match[2],
        text,
        flags=re.DOTALL,
    )


def main() -> None:
    found = [RESULTS / f"{name}.json" for name in ORDER]
    records = [json.loads(path.read_text()) for path in found if path.exists()]
    sections = [section(record) for record in records]
    page = HERE.parent / "docs" / "benchmarks.md"
    page.parent.mkdir(exist_ok=True)
    page.write_text("\n".join([INTRODUCTION.rstrip() + "\n", *sections]))
    for card in sorted((HERE.parent / "docs" / "models").glob("*.md")):
        text = before = card.read_text()
        for record in records:
            text = with_values(text, record)
        if text != before:
            card.write_text(text)
            print(f"written: docs/models/{card.name}")
    print(f"written: docs/benchmarks.md from {len(sections)} of {len(ORDER)} results")


if __name__ == "__main__":
    main()
