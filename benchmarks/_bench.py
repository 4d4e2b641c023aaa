"""What the benchmarks share: where the data lies, making clips, measuring a child process, tables, results as JSON."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
WORK = HERE / "work"
RESULTS = HERE / "results"
LIBRARIES = ("torch", "numpy", "opencv-python-headless", "onnxruntime", "av", "facenet-pytorch")
MIB = 2**20
TRAINING_ALONE = (  # settings of pa-train without which validation, logs and pictures are timed too
    "trainer.limit_val_batches=0",
    "trainer.enable_model_summary=false",
    "logger=none",
    "~callbacks.best",
    "~callbacks.preview",
    "~callbacks.progress",
)


def shared_data() -> Path:
    """The folder of clips and weights: PA_SHARED_DATA, or ../shared/data beside the checkout."""
    folder = Path(os.environ.get("PA_SHARED_DATA", HERE.parents[1] / "shared" / "data"))
    if not folder.is_dir():
        sys.exit("this benchmark needs the shared data folder: set PA_SHARED_DATA")
    return folder


def pa_anonymize(*settings: str) -> list[str]:
    """The command line of the installed program, beside the Python that runs the benchmark."""
    return [str(Path(sys.executable).with_name("pa-anonymize")), *settings]


@dataclass(frozen=True)
class ChildRun:
    """One child process from start to end.

    Args:
        seconds: Wall time.
        cpu_s: User and system time, of all its processes.
        peak_mib: Peak resident memory: of the process itself as the kernel counted it, or of it and its own children
            together (proportional set size, sampled four times a second), whichever is larger.
        output: Standard output and error, the last 4000 characters.
    """

    seconds: float
    cpu_s: float
    peak_mib: float
    output: str


def run_child(command: Sequence[str], expect: Sequence[int] = (0,)) -> ChildRun:
    """Run a command to its end and measure it; stops the benchmark where it fails."""
    before = os.times()
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    peak_kib = 0
    is_done = threading.Event()

    def watch() -> None:
        nonlocal peak_kib
        while not is_done.wait(0.05):
            _, *children = _family(process.pid)
            peak_kib = max(peak_kib, _peak_kib(process.pid) + sum(_pss_kib(pid) for pid in children))

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    chunks: list[bytes] = []
    assert process.stdout is not None
    with process.stdout:
        while chunk := process.stdout.read(65536):
            chunks = [*chunks[-1:], chunk]
    _, status = os.waitpid(process.pid, 0)
    seconds = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    is_done.set()
    watcher.join()
    after = os.times()
    cpu_s = after.children_user + after.children_system - before.children_user - before.children_system
    output = b"".join(chunks).decode(errors="replace")[-4000:]
    if process.returncode not in expect:
        sys.exit(f"exit code {process.returncode} from: {' '.join(command)}\n{output}")
    return ChildRun(seconds, cpu_s, peak_kib / 1024, output)


def _family(pid: int) -> list[int]:
    """A process and all that descend from it, as far as they are still there."""
    family = [pid]
    for member in family:
        try:
            for task in Path(f"/proc/{member}/task").iterdir():
                family += [int(child) for child in (task / "children").read_text().split()]
        except OSError:
            continue
    return family


def _peak_kib(pid: int) -> int:
    """The most resident memory a process ever had. Not ``ru_maxrss``, in which a child inherits its parent's peak."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM:")), 0)


def _pss_kib(pid: int) -> int:
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1])
    except OSError:
        pass
    return 0


@dataclass(frozen=True)
class Table:
    """A table for the terminal and for docs/benchmarks.md.

    Args:
        title: What it shows, with units.
        columns: Their heads.
        rows: Cells; floats are shown with three significant digits.
        notes: Sentences below it: what was counted and how, and what falls short.
    """

    title: str
    columns: tuple[str, ...]
    rows: list[tuple[Any, ...]]
    notes: list[str] = field(default_factory=list)

    def markdown(self) -> str:
        """The table as GitHub markdown."""
        cells = [self.columns, *([show(cell) for cell in row] for row in self.rows)]
        widths = [max(3, *(len(row[at]) for row in cells)) for at in range(len(self.columns))]
        lines = [
            "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |"
            for row in cells
        ]
        lines.insert(1, "| " + " | ".join("-" * width for width in widths) + " |")
        return "\n".join([f"**{self.title}**", "", *lines, "", *self.notes])


def show(cell: Any) -> str:
    """One cell as text."""
    if cell is None:
        return "-"
    if isinstance(cell, bool):
        return "yes" if cell else "NO"
    if isinstance(cell, float):
        return f"{cell:.0f}" if abs(cell) >= 1000 else f"{cell:.4g}" if 0.9 <= abs(cell) < 1 else f"{cell:.3g}"
    return str(cell)


def machine() -> dict[str, Any]:
    """What a reader needs to know of the machine; nothing that tells which one it is."""
    model = next(
        (
            line.split(":", 1)[1].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if "model name" in line
        ),
        platform.machine(),
    )
    return {
        "cpu": model,
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
        "system": platform.system(),
        "python": platform.python_version(),
        "libraries": {name: version(name) for name in LIBRARIES},
    }


def publish(name: str, tables: Sequence[Table], values: dict[str, Any]) -> None:
    """Print the tables and write results/NAME.json.

    Args:
        name: Of the benchmark's file.
        tables: What docs/benchmarks.md shows.
        values: The raw numbers, for machines; `values["goals"]` maps each goal to whether it was met.
    """
    # Where files lie on this machine is of no use elsewhere.
    given = [Path(argument).name if Path(argument).is_absolute() else argument for argument in sys.argv[1:]]
    arguments = " ".join([f"benchmarks/{name}.py", *given])
    record = {
        "benchmark": name,
        "command": f"python {arguments}",
        "date": date.today().isoformat(),
        "load_before": round(LOAD_AT_START, 2),
        "machine": machine(),
        "tables": [asdict(table) for table in tables],
        "values": values,
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(record, indent=1) + "\n")
    for table in tables:
        print(f"\n{table.markdown()}")
    print(f"\nwritten: benchmarks/results/{name}.json")


LOAD_AT_START = os.getloadavg()[0]
"""Other work on the machine spoils timings; the record says how much there was."""


def frames_of(path: Path) -> Iterator[Any]:
    """The frames of a video, GIF or folder of images as uint8 h w 3 RGB."""
    import av
    import numpy as np
    from PIL import Image

    if path.is_dir():
        for image in sorted(path.iterdir()):
            yield np.asarray(Image.open(image).convert("RGB"))
        return
    with av.open(str(path)) as container:
        for frame in container.decode(video=0):
            yield frame.to_ndarray(format="rgb24")


def write_clip(path: Path, frames: Iterator[Any], *, fps: int = 25, crf: int = 18) -> Path:
    """Encode RGB frames as H.264 4:2:0; `crf=0` is lossless from there on. Made once: an existing file is kept."""
    if path.exists():
        return path
    import av

    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f"unfinished.{path.name}")
    with av.open(str(unfinished), "w") as container:
        stream = None
        for rgb in frames:
            if stream is None:
                height, width = rgb.shape[0] // 2 * 2, rgb.shape[1] // 2 * 2
                stream = container.add_stream("libx264", rate=fps, width=width, height=height, pix_fmt="yuv420p")
                stream.options = {"crf": str(crf), "preset": "veryfast"}
            container.mux(stream.encode(av.VideoFrame.from_ndarray(rgb[:height, :width].copy(), format="rgb24")))
        assert stream is not None
        container.mux(stream.encode())
    unfinished.rename(path)
    return path
