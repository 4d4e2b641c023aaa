"""Every benchmark for the record, one after the other, then docs/benchmarks.md from their results."""

import subprocess
import sys
from pathlib import Path

BENCHMARKS = (
    "recall",
    "rates",
    "choice",
    "outlines",
    "speed",
    "memory",
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
    "write_docs",
)


def main() -> None:
    folder = Path(__file__).parent
    for name in BENCHMARKS:
        print(f"== {name}", flush=True)
        subprocess.run([sys.executable, folder / f"{name}.py"], check=True)


if __name__ == "__main__":
    main()
