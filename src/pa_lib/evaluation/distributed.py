"""One piece of work in several processes that communicate once, at its end."""

from __future__ import annotations

import os
import pickle
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Generic, TypeVar

import torch
from torch import distributed

from pa_lib.errors import PaLibError, SettingError, first_line
from pa_lib.evaluation.shard import OnProgress

T = TypeVar("T")
Work = Callable[[int, int, OnProgress], T]
"""What every process does, given its number, the number of processes, and where its progress goes."""

_PATIENCE = timedelta(days=2)  # the processes meet once, at the end, and one may have much more to do than another
_LEAST_INTERVAL_S = 0.2  # between two messages of progress


def launched() -> tuple[int, int] | None:
    """Rank and number of processes of a launcher such as torchrun; None where this process was started by itself."""
    world = int(os.environ.get("WORLD_SIZE", "1"))
    return (int(os.environ["RANK"]), world) if world > 1 and "RANK" in os.environ else None


@contextmanager
def process_group(init_method: str, rank: int, world: int) -> Iterator[None]:
    """A process group on the CPU, for as long as the block lasts.

    Args:
        init_method: Address at which the processes meet: ``env://`` or ``file://…``.
        rank: Number of this process, from 0.
        world: Number of processes.
    """
    distributed.init_process_group("gloo", init_method=init_method, rank=rank, world_size=world, timeout=_PATIENCE)
    try:
        yield
    finally:
        distributed.destroy_process_group()


def gathered(own: Any, world: int) -> list[Any]:
    """The object of each process, in the order of ranks."""
    if world == 1:
        return [own]
    all_of_them: list[Any] = [None] * world
    distributed.all_gather_object(all_of_them, own)
    return all_of_them


def in_processes(work: Work[T], processes: int, on_progress: OnProgress) -> T:
    """Do the work in new processes; the result of the first one counts.

    Args:
        work: Function that each process runs; it is pickled. It must join the processes itself, and raise the same
            error in all of them.
        processes: Number of processes, >= 2.
        on_progress: Callback, called in this process.

    Raises:
        SettingError: The work cannot be pickled.
        PaLibError: What the first process raised.
    """
    import torch.multiprocessing as multiprocessing

    try:
        pickle.dumps(work)
    except Exception as error:
        raise SettingError(
            f"processes={processes}: the work cannot be handed to other processes ({first_line(error)}); give "
            "functions of a module that make the source and the metrics"
        ) from error
    with tempfile.TemporaryDirectory() as folder:
        messages: Any = multiprocessing.get_context("spawn").Queue()
        child = _Child(work, processes, f"file://{folder}/group")
        children: Any = multiprocessing.start_processes(child, (messages,), nprocs=processes, join=False)  # type: ignore[attr-defined,no-untyped-call]
        result: Any = None
        is_done = False
        while not is_done or not messages.empty():
            is_done = is_done or children.join(timeout=0.1)
            while not messages.empty():
                kind, *content = messages.get()
                if kind == "progress":
                    on_progress(*content)
                else:
                    (result,) = content
    if isinstance(result, PaLibError):
        raise result
    answer: T = result
    return answer


@dataclass(frozen=True)
class _Child(Generic[T]):
    """What a new process runs."""

    work: Work[T]
    world: int
    init_method: str

    def __call__(self, rank: int, messages: Any) -> None:
        torch.set_num_threads(max(1, (os.cpu_count() or 1) // self.world))
        last_s = 0.0

        def on_progress(title: str, task: str, done: int, total: int | None) -> None:
            nonlocal last_s
            if time.monotonic() - last_s > _LEAST_INTERVAL_S or done == total:
                messages.put(("progress", title, task, done, total))
                last_s = time.monotonic()

        with process_group(self.init_method, rank, self.world):
            try:
                result: T | PaLibError = self.work(rank, self.world, on_progress)
            except PaLibError as error:  # the same in all of them
                result = error
            if rank == 0:
                messages.put(("done", result))
