"""The work behind pa-evaluate: shared out to one process or several, and joined to one record."""

from __future__ import annotations

import hashlib
import itertools
import os
import tempfile
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from torch import distributed

from pa_lib.cli.share import Share, Tell, anonymize_clips, anonymize_videos, compare_files
from pa_lib.errors import PaLibError
from pa_lib.reports.evaluation_record import Evaluation, MeasuredClip, MetricRecord
from pa_lib.reports.text import quantity

_PATIENCE = timedelta(days=2)  # the processes meet once, at the end, and one may have much more to do than another


def measure(config: Mapping[str, Any], mode: str, folder: Path) -> Evaluation | None:
    """Measure what the config asks for; None in every process of a launcher but the first.

    Args:
        config: That of ``conf/evaluate.yaml``, resolved; under ``_changed_`` what changes in a trained module.
        mode: ``files``, ``videos``, ``clips`` or ``attack``.
        folder: Where videos go that are anonymized here.

    Raises:
        PaLibError: Something cannot be measured.
    """
    from pa_lib.cli.progress import Bars

    if mode == "attack":
        from pa_lib.cli.attack import attack

        with Bars(units={"anonymize": "photos", "learn": "steps"}) as bars:
            return attack(config, bars.tell)
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world > 1 and "RANK" in os.environ:
        rank = int(os.environ["RANK"])
        with Bars(is_shown=rank == 0) as bars, _group("env://", rank, world):
            evaluation = _measured(config, mode, folder, rank, world, bars.tell)
        return evaluation if rank == 0 else None
    if config["processes"] > 1:
        return _in_processes(config, mode, folder)
    with Bars() as bars:
        return _measured(config, mode, folder, 0, 1, bars.tell)


def _in_processes(config: Mapping[str, Any], mode: str, folder: Path) -> Evaluation:
    """Every process takes every n-th part; the first one's record holds for all."""
    import torch.multiprocessing as processes

    from pa_lib.cli.progress import Bars

    world = config["processes"]
    with tempfile.TemporaryDirectory() as meeting, Bars() as bars:
        messages: Any = processes.get_context("spawn").Queue()
        arguments = (dict(config), mode, folder, world, f"file://{meeting}/group", messages)
        children: Any = processes.start_processes(_child, arguments, nprocs=world, join=False)  # type: ignore[attr-defined,no-untyped-call]
        outcome: Evaluation | PaLibError | None = None
        is_done = False
        while not is_done or not messages.empty():
            is_done = is_done or children.join(timeout=0.1)
            while not messages.empty():
                kind, *told = messages.get()
                if kind == "progress":
                    bars.tell(*told)
                else:
                    outcome = told[0]
    if isinstance(outcome, PaLibError):
        raise outcome
    assert outcome is not None
    return outcome


def _child(
    rank: int, config: Mapping[str, Any], mode: str, folder: Path, world: int, meeting: str, messages: Any
) -> None:
    torch.set_num_threads(max(1, (os.cpu_count() or 1) // world))
    last_s = 0.0

    def tell(title: str, stage: str, done: int, total: int | None) -> None:
        nonlocal last_s
        if time.monotonic() - last_s > 0.2 or done == total:
            messages.put(("progress", title, stage, done, total))
            last_s = time.monotonic()

    with _group(meeting, rank, world):
        try:
            outcome: Evaluation | PaLibError = _measured(config, mode, folder, rank, world, tell)
        except PaLibError as error:  # all of them raise the same
            outcome = error
        if rank == 0:
            messages.put(("done", outcome))


@contextmanager
def _group(meeting: str, rank: int, world: int) -> Iterator[None]:
    distributed.init_process_group("gloo", init_method=meeting, rank=rank, world_size=world, timeout=_PATIENCE)
    try:
        yield
    finally:
        distributed.destroy_process_group()


def _measured(config: Mapping[str, Any], mode: str, folder: Path, rank: int, world: int, tell: Tell) -> Evaluation:
    share: Share | None = None
    failure: Exception | None = None
    work = {"files": compare_files, "videos": anonymize_videos, "clips": anonymize_clips}[mode]
    try:
        share = work(config, folder, rank, world, tell)
    except Exception as error:
        if world == 1:
            raise
        failure = error
    shares = _gathered((share and replace(share, stages={}), _as_message(failure)), world)
    for _, message in shares:
        if message is not None:
            raise message
    assert share is not None
    records, left_out = [], {}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The ``compute`` method")  # a process without a share
        for stage, metrics in share.stages.items():
            for metric in metrics:
                try:
                    records.append(MetricRecord.of(metric, stage))
                except (PaLibError, ValueError) as error:
                    left_out[metric.name] = " ".join(str(error).split())
    for other, _ in shares:
        left_out |= other.left_out
    if not records:
        told = "; ".join(f"{name}: {why}" for name, why in left_out.items())
        raise PaLibError(f"nothing could be measured: {told}")
    clips = sorted((clip for other, _ in shares for clip in other.clips), key=lambda clip: clip.clip)
    return Evaluation(
        share.title,
        tuple(records),
        tuple(clips),
        _data(config, [other for other, _ in shares]) if mode == "clips" else {},
        left_out,
        tuple(_notes_of(clips)),
    )


def _gathered(mine: Any, world: int) -> list[Any]:
    if world == 1:
        return [mine]
    everybodys: list[Any] = [None] * world
    distributed.all_gather_object(everybodys, mine)
    return everybodys


def _as_message(failure: Exception | None) -> PaLibError | None:
    if failure is None or isinstance(failure, PaLibError):
        return failure
    return PaLibError(f"{type(failure).__name__}: {failure}")


def _notes_of(clips: Sequence[MeasuredClip]) -> list[str]:
    notes = []
    if empty := [clip.name for clip in clips if clip.n_hidden == 0]:
        where = empty[0]
        if len(clips) > 1:
            where = f"{len(empty)} of {len(clips)} videos ({', '.join(empty[:3])}{', …' if len(empty) > 3 else ''})"
        notes.append(
            f"nobody is hidden in {where}: what is said of people and of the inside of masks is not said of it"
        )
    if missing := sum(clip.n_undecodable for clip in clips):
        notes.append(f"{quantity(missing, 'frames')} could not be decoded in one of the files: in no figure")
    if blank := sum(clip.n_redacted for clip in clips):
        notes.append(f"{quantity(blank, 'frames')} blanked whole when anonymized: masked everywhere")
    if any(clip.masker_from == "settings" for clip in clips):
        notes.append("masks are those of people/masker: neither report nor tracks file says how they were made")
    return notes


def _data(config: Mapping[str, Any], shares: Sequence[Share]) -> dict[str, Any]:
    digests = sorted(itertools.chain.from_iterable(share.digests for share in shares))
    settings = {name: value for name, value in config["data"].items() if name != "path"}
    return {
        "settings": settings,
        "split": config["split"],
        "n_clips": sum(share.n_clips for share in shares),
        "sha256": hashlib.sha256("".join(digests).encode()).hexdigest(),
    }
