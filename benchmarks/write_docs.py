"""Write docs/benchmarks.md from benchmarks/results/*.json, so that no value in it is typed by hand.

python benchmarks/write_docs.py
"""

from __future__ import annotations

import json
from typing import Any

from _bench import HERE, RESULTS, Table

ORDER = (
    "recall",
    "speed",
    "memory",
    "choice",
    "scaling",
    "temporal",
    "passersby",
    "ablations",
    "fvd",
    "warping",
    "attackers",
    "comparison",
    "embedded",
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
    for table in record["tables"]:
        made = Table(table["title"], tuple(table["columns"]), [tuple(row) for row in table["rows"]], table["notes"])
        lines += ["", made.markdown().rstrip()]
    return "\n".join(lines) + "\n"


def main() -> None:
    found = [RESULTS / f"{name}.json" for name in ORDER]
    sections = [section(json.loads(path.read_text())) for path in found if path.exists()]
    page = HERE.parent / "docs" / "benchmarks.md"
    page.parent.mkdir(exist_ok=True)
    page.write_text("\n".join([INTRODUCTION.rstrip() + "\n", *sections]))
    print(f"written: docs/benchmarks.md from {len(sections)} of {len(ORDER)} results")


if __name__ == "__main__":
    main()
