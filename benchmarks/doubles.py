"""All values of doubles beside their goals, and beside blur, mosaic and networks that join or generate heads.

python benchmarks/doubles.py                                     all parts and rows; those measured before are kept
python benchmarks/doubles.py --only portraits clips              some parts
python benchmarks/doubles.py --only clips --rows doubles blur    some rows of them
python benchmarks/doubles.py --with 'learned light' module=doubles module.reference.light.path=FILE    one row more
python benchmarks/doubles.py --with 'old weights' module=passersby weights=FILE    from a file of an earlier release
python benchmarks/doubles.py --n 20 --frames 8                   fewer portraits and frames: a trial, not published

A run that was stopped goes on where it was, as long as neither settings nor the library's code have changed. What is
neither asked for nor kept stays as in the last result; the tables say what was measured with other code. Speed is only
meaningful on a quiet machine.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from _bench import RESULTS, Table, publish
from doubles_attackers import attackers
from doubles_clips import clips, speed
from doubles_portraits import portraits
from doubles_rows import OURS, SETTINGS, Row, code
from doubles_tables import attackers_table, clips_table, ordered, portraits_table, speed_table
from embedded_weights import Record

PARTS = ("portraits", "clips", "attackers", "speed")
TABLES: Mapping[str, Callable[[Mapping[str, Record]], tuple[Table, dict[str, bool]]]] = {
    "portraits": portraits_table,
    "clips": clips_table,
    "attackers": attackers_table,
    "speed": speed_table,
}
ONLY_MAIN = {"attackers": (OURS, "blur", "mosaic"), "speed": (OURS, "joined in one step", "blur")}
"""Rows of the parts that take long, unless --rows asks for others."""


def measured(part: str, row: Row, asked: argparse.Namespace, *, is_asked: bool) -> Record | None:
    """One part of one row: what is kept, or what is measured now if it is asked for."""
    if part == "portraits":
        return portraits(row, asked.n, is_asked=is_asked)
    if part == "clips":
        return clips(row, asked.frames, is_asked=is_asked)
    if part == "attackers":
        return attackers(row, asked.n, is_asked=is_asked)
    return speed(row, asked.large_frames, asked.repeats, is_asked=is_asked)


def gathered(
    rows: Sequence[Row], asked: argparse.Namespace, earlier: Mapping[str, Any]
) -> dict[str, dict[str, Record]]:
    """Records by part and row: new ones, else kept ones, else those of the last result."""
    found: dict[str, dict[str, Record]] = {part: {} for part in PARTS}
    for part in PARTS:
        names = asked.rows or ONLY_MAIN.get(part, [row.name for row in rows])
        for row in rows:
            is_asked = part in asked.only and (row.name in names or row.name in asked.added)
            record = measured(part, row, asked, is_asked=is_asked)
            if record is not None:
                found[part][row.name] = {"code": code()} | record
            elif row.name in earlier.get(part, {}) and earlier["rows"].get(row.name) == [*row.settings]:
                found[part][row.name] = earlier[part][row.name]
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--rows", nargs="+", choices=list(SETTINGS), help="rows to measure; the others if kept")
    parser.add_argument(
        "--with",
        nargs="+",
        action="append",
        default=[],
        dest="more",
        metavar=("NAME", "SETTING"),
        help="one more row, or another",
    )
    parser.add_argument("--n", type=int, help="portraits, and photos that are attacked; all if not given")
    parser.add_argument("--frames", type=int, help="of each clip, at most")
    parser.add_argument("--large-frames", type=int, default=40, help="of the 1080p clip")
    parser.add_argument("--repeats", type=int, default=3, help="runs of each command for speed")
    asked = parser.parse_args(arguments)
    asked.added = [name for name, *_ in asked.more]
    rows = [Row(name, settings) for name, settings in SETTINGS.items() if name not in asked.added]
    rows += [Row(name, tuple(settings)) for name, *settings in asked.more]
    is_trial = any(
        getattr(asked, size) != parser.get_default(size) for size in ("n", "frames", "large_frames", "repeats")
    )
    place = RESULTS / "doubles.json"
    earlier = json.loads(place.read_text())["values"] if place.is_file() and not is_trial else {}
    found = gathered(rows, asked, earlier)
    tables: list[Table] = []
    goals: dict[str, bool] = {}
    for part, records in found.items():
        if OURS not in records:
            continue
        table, reached = TABLES[part](ordered(records))
        old = [row for row, record in records.items() if record["code"] != code()]
        if old:
            table.notes.append(f"Measured with earlier code: {', '.join(old)}.")
        tables.append(table)
        goals |= reached
    if is_trial:
        print("\n\n".join(table.markdown() for table in tables))
        print(f"\n{json.dumps(goals, indent=1)}\na trial with other sizes: nothing is published")
        return
    settings = {row.name: [*row.settings] for row in rows}
    publish(
        "doubles", tables, {"goals": goals, "rows": {**earlier.get("rows", {}), **settings}, "code": code(), **found}
    )


if __name__ == "__main__":
    main()
