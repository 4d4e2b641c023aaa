"""The work behind pa-evaluate: parts made from the config, metrics fed, in one process or several."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from torch import distributed

from pa_lib.checkpoint import check_targets
from pa_lib.cli.anonymize import build_module, build_pipeline
from pa_lib.cli.compose import ConfigError, build, checked
from pa_lib.cli.metrics import build_metrics
from pa_lib.contracts import PaLibError
from pa_lib.metrics import AbstractMetric
from pa_lib.metrics.feed import feed, needed
from pa_lib.people import AbstractMasker, check_source, read_tracks
from pa_lib.pipeline import RunSettings
from pa_lib.pipeline.evaluate_module import module_results
from pa_lib.pipeline.evaluate_video import OpenedPair, check_alike, composited_results, recorded_masker
from pa_lib.pipeline.evaluation import Evaluation, MeasuredClip, MetricRecord
from pa_lib.pipeline.pair_clips import ClipPair, pair_clips, videos_of
from pa_lib.video import Limits, WriteSettings, default_output, fingerprint, probe

Tell = Callable[[str, str, int, int | None], None]

_PATIENCE = timedelta(days=2)  # the processes meet once, at the end, and one may have much more to do than another


@dataclass
class _Share:
    """What one process has measured."""

    stages: dict[str, list[AbstractMetric]]
    clips: list[MeasuredClip] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    digests: list[str] = field(default_factory=list)
    n_clips: int = 0
    title: str = ""


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

        with Bars() as bars:
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
    share: _Share | None = None
    failure: Exception | None = None
    work = {"files": _compare_files, "videos": _anonymize_videos, "clips": _anonymize_clips}[mode]
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
    notes = dict.fromkeys(note for other, _ in shares for note in other.notes)
    return Evaluation(
        share.title,
        tuple(records),
        tuple(clips),
        _data(config, [other for other, _ in shares]) if mode == "clips" else {},
        left_out,
        (*notes, *_notes_of(clips)),
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
    if missing := sum(clip.n_undecodable for clip in clips):
        notes.append(f"{missing} frames could not be decoded in one of the files and are in no figure")
    if blank := sum(clip.n_redacted for clip in clips):
        notes.append(f"{blank} frames were blanked whole when they were anonymized; they count as masked everywhere")
    if any(clip.masker_from == "settings" for clip in clips):
        notes.append("masks are those of people/masker: neither report nor tracks file says how they were made")
    return notes


# -- two files ---------------------------------------------------------------------------------------------------------


def _compare_files(config: Mapping[str, Any], folder: Path, rank: int, world: int, tell: Tell) -> _Share:
    original = Path(config["original"]).expanduser()
    pairs, lonely = pair_clips(original, _path(config["anonymized"]), _path(config["tracks"]))
    limits = checked(Limits, config["limits"], "limits")
    without = [pair.original.name for pair in pairs if pair.tracks is None]
    if without and len(without) < len(pairs):
        raise PaLibError(
            f"{len(without)} of {len(pairs)} videos have no tracks file beside them ({', '.join(without[:3])}): with "
            "masks for some only, figures would mix; add them, or leave these videos out"
        )
    metrics = build_metrics(config["metrics"])
    left_out = dict(line.split(": ", 1) for line in lonely)
    if without:
        metrics, missing = _without_masks(metrics)
        left_out |= missing
    own = list(enumerate(pairs))[rank::world]
    for _, pair in own:  # before an hour of work, not after
        check_alike(probe(pair.original, limits), probe(pair.anonymized, limits))
    title = f"{pairs[0].original.name} → {pairs[0].anonymized.name}" if len(pairs) == 1 else f"{len(pairs)} videos"
    share = _Share({"encoded": metrics}, left_out=left_out, title=title)
    make_masker = _MaskerMaker()
    for clip, pair in own:
        name = pair.original.name if len(pairs) == 1 else f"[{clip + 1}/{len(pairs)}] {pair.original.name}"
        with _named(pair.original.name if len(pairs) > 1 else ""):
            _feed_pair(config, pair, clip, metrics, make_masker, share, lambda *told, name=name: tell(name, *told))
    return share


def _feed_pair(
    config: Mapping[str, Any],
    pair: ClipPair,
    clip: int,
    metrics: Sequence[AbstractMetric],
    make_masker: _MaskerMaker,
    share: _Share,
    tell: Callable[[str, int, int | None], None],
) -> None:
    opened = OpenedPair(
        pair,
        clip,
        make_masker,
        config["people"]["masker"],
        is_masker_recorded=config["is_masker_recorded"],
        limits=checked(Limits, config["limits"], "limits"),
    )
    for result in opened.results(tell):
        feed(metrics, result, has_masks=opened.has_masks)
    share.clips.append(opened.told())


def _without_masks(metrics: Sequence[AbstractMetric]) -> tuple[list[AbstractMetric], dict[str, str]]:
    """Those that do without masks, and why the others are left out."""
    why = "needs {}, and there is no tracks file beside the anonymized video; give tracks=FILE"
    missing = {metric.name: why.format(" and ".join(sorted(needed(metric)))) for metric in metrics if needed(metric)}
    kept = [metric for metric in metrics if not needed(metric)]
    if not kept:
        raise PaLibError(f"{'; '.join(f'{name} {told}' for name, told in missing.items())}")
    return kept, missing


class _MaskerMaker:
    """Maskers from settings, checked where they come from a file, made once."""

    def __init__(self) -> None:
        self._made: dict[str, AbstractMasker] = {}

    def __call__(self, node: Mapping[str, Any], path: Path) -> AbstractMasker:
        key = json.dumps(node, sort_keys=True, default=str)
        if key not in self._made:
            check_targets({"masker": node}, path, trusted=("pa_lib.people",))
            masker = build(dict(node))
            if not isinstance(masker, AbstractMasker):
                raise PaLibError(f"{path}: its masker is a {type(masker).__name__}; set is_masker_recorded=false")
            self._made[key] = masker
        return self._made[key]


# -- videos that are anonymized here -----------------------------------------------------------------------------------


def _anonymize_videos(config: Mapping[str, Any], folder: Path, rank: int, world: int, tell: Tell) -> _Share:
    original = Path(config["original"]).expanduser()
    sources = videos_of(original)
    if not sources:
        raise PaLibError(f"original={original}: the folder holds no video or image")
    if config["tracks"] is not None and len(sources) > 1:
        raise PaLibError(f"tracks={config['tracks']} belongs to one video, but there are {len(sources)}")
    write = checked(WriteSettings, config["write"], "write")
    limits = checked(Limits, config["limits"], "limits")
    parts = {**config, "write": config["write"]}
    pipeline = build_pipeline(parts, build_module(dict(config), config["_changed_"]))
    shared: dict[str, Any] = {}
    stages = {stage: build_metrics(config["metrics"], dict(shared)) for stage in ("composited", "encoded")}
    title = f"{sources[0].name}, anonymized here" if len(sources) == 1 else f"{len(sources)} videos, anonymized here"
    share = _Share(stages, title=title)
    make_masker = _MaskerMaker()
    for clip, source in list(enumerate(sources))[rank::world]:
        name = source.name if len(sources) == 1 else f"[{clip + 1}/{len(sources)}] {source.name}"

        def progress(stage: str, done: int, total: int | None, name: str = name) -> None:
            tell(name, stage, done, total)

        with _named(source.name if len(sources) > 1 else ""):
            place = folder if source == original else folder / source.parent.relative_to(original)
            place.mkdir(parents=True, exist_ok=True)
            output = default_output(probe(source, limits), place, write)
            tracks = _path(config["tracks"])
            if tracks is None:
                run = RunSettings(stage="find", seed=config["seed"], config={"people": config["people"]})
                tracks = pipeline.run(source, output, run, progress).files["tracks"]
            record = read_tracks(tracks)
            check_source(record, fingerprint(source))
            node = config["people"]["masker"]
            if config["is_masker_recorded"] and (found := recorded_masker(None, record)) is not None:
                node = found[0]
            results = composited_results(
                source,
                output,
                record,
                make_masker(node, tracks),
                pipeline.module,
                clip=clip,
                seed=config["seed"],
                limits=limits,
                write=write,
                tell=progress,
            )
            for result in results:
                feed(stages["composited"], result)
            _feed_pair(config, ClipPair(source, output, tracks), clip, stages["encoded"], make_masker, share, progress)
    return share


# -- clips of a data module --------------------------------------------------------------------------------------------


def _anonymize_clips(config: Mapping[str, Any], folder: Path, rank: int, world: int, tell: Tell) -> _Share:
    module = build_module(dict(config), config["_changed_"])
    datamodule = build(config["data"])
    split = config["split"]
    if split not in ("val", "test"):
        raise ConfigError(f"split={split}: expected val or test")
    datamodule.setup("validate" if split == "val" else "test")
    try:
        loader = getattr(datamodule, f"{split}_dataloader")()
        n_batches = len(loader)
    except Exception as error:
        if type(error).__name__ != "MisconfigurationException":  # Lightning's word for: there is none
            raise
        raise PaLibError(f"data={type(datamodule).__name__} has no {split} set; take split=val") from error
    if n_batches == 0:
        raise PaLibError(f"{type(datamodule).__name__} holds nothing out for split={split}; set data.val_share above 0")
    kind: Any = config["kind"] or getattr(datamodule, "kind", None)
    if kind is None:
        kind = "face" if type(datamodule).__name__ == "FaceDataModule" else "person"
    if kind not in ("face", "person"):
        raise ConfigError(f"kind={kind}: expected face or person")
    metrics = build_metrics(config["metrics"])
    title = f"{type(module).__name__} on {type(datamodule).__name__}"
    share = _Share({"crops": metrics}, title=title)
    mine = itertools.islice(loader, rank, None, world)
    n_mine = len(range(rank, n_batches, world))
    for done, result in enumerate(module_results(module, mine, kind=kind, seed=config["seed"]), 1):
        digest = hashlib.sha256(result.source.contiguous().numpy().tobytes())
        digest.update(result.masks.contiguous().numpy().tobytes())
        share.digests.append(digest.hexdigest())
        share.n_clips += len(result.source)
        feed(metrics, result)
        tell("clips", "anonymizing, measuring", done, n_mine)
    return share


def _data(config: Mapping[str, Any], shares: Sequence[_Share]) -> dict[str, Any]:
    digests = sorted(itertools.chain.from_iterable(share.digests for share in shares))
    settings = {name: value for name, value in config["data"].items() if name != "path"}
    return {
        "settings": settings,
        "split": config["split"],
        "n_clips": sum(share.n_clips for share in shares),
        "sha256": hashlib.sha256("".join(digests).encode()).hexdigest(),
    }


@contextmanager
def _named(name: str) -> Iterator[None]:
    """Errors of one file among several say which."""
    try:
        yield
    except PaLibError as error:
        if not name or str(error).startswith(name):
            raise
        raise type(error)(f"{name}: {error}") from error


def _path(value: str | None) -> Path | None:
    return None if value is None else Path(value).expanduser()
