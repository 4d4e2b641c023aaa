"""What one process measures: its share of pairs of files, of videos anonymized here, or of a data module's clips."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pa_lib.checkpoint import check_targets
from pa_lib.cli.build import build_metrics, build_module, build_pipeline
from pa_lib.cli.compose import ConfigError, build, checked
from pa_lib.contracts import stored_kind
from pa_lib.errors import PaLibError
from pa_lib.evaluation.clips import module_results
from pa_lib.evaluation.pairs import ClipPair, pair_clips, videos_of
from pa_lib.evaluation.videos import OpenedPair, check_alike, composited_results, recorded_masker
from pa_lib.metrics import AbstractMetric
from pa_lib.metrics.feed import feed, needed
from pa_lib.people import AbstractMasker, check_source, read_tracks
from pa_lib.pipeline import RunSettings
from pa_lib.reports.evaluation_record import MeasuredClip
from pa_lib.video import Limits, WriteSettings, default_output, fingerprint, probe

Tell = Callable[[str, str, int, int | None], None]


@dataclass
class Share:
    """What one process has measured.

    Args:
        stages: Stage -> metrics that were fed.
        clips: The videos.
        left_out: Metric or file -> why it was not measured.
        digests: Of each batch of a data module.
        n_clips: Of a data module.
        title: What all processes together measure.
    """

    stages: dict[str, list[AbstractMetric]]
    clips: list[MeasuredClip] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)
    digests: list[str] = field(default_factory=list)
    n_clips: int = 0
    title: str = ""


# -- two files ---------------------------------------------------------------------------------------------------------


def compare_files(config: Mapping[str, Any], folder: Path, rank: int, world: int, tell: Tell) -> Share:
    """Every `world`-th pair of original and anonymized file, from number `rank` on.

    Args:
        config: That of ``conf/evaluate.yaml``, resolved.
        folder: Not needed: nothing is anonymized here.
        rank: Of this process.
        world: Number of processes.
        tell: Told (title, stage, done, of how many).

    Raises:
        PaLibError: Files do not fit each other, or nothing can be measured without masks.
    """
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
    share = Share({"encoded": metrics}, left_out=left_out, title=title)
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
    share: Share,
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
    why = "no tracks file beside the anonymized video; give tracks=FILE"
    told = {metric.name: " and ".join(sorted(needed(metric))) for metric in metrics if needed(metric)}
    kept = [metric for metric in metrics if not needed(metric)]
    if not kept:
        raise PaLibError(f"{why}. {'; '.join(f'{name} needs {what}' for name, what in told.items())}")
    missing = {name: f"needs {what}, and there is {why}" for name, what in told.items()}
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


def anonymize_videos(config: Mapping[str, Any], folder: Path, rank: int, world: int, tell: Tell) -> Share:
    """Every `world`-th video, anonymized into `folder`: the frames before they are encoded, and the file.

    Args and errors as in `compare_files`.
    """
    original = Path(config["original"]).expanduser()
    sources = videos_of(original)
    if not sources:
        raise PaLibError(f"original={original}: the folder holds no video or image")
    if config["tracks"] is not None and len(sources) > 1:
        raise PaLibError(f"tracks={config['tracks']} belongs to one video, but there are {len(sources)}")
    write = checked(WriteSettings, config["write"], "write")
    limits = checked(Limits, config["limits"], "limits")
    pipeline = build_pipeline(dict(config), build_module(dict(config), config["_changed_"]))
    shared: dict[str, Any] = {}  # both stages look with the same networks
    stages = {stage: build_metrics(config["metrics"], shared) for stage in ("composited", "encoded")}
    title = f"{sources[0].name}, anonymized here" if len(sources) == 1 else f"{len(sources)} videos, anonymized here"
    share = Share(stages, title=title)
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


def anonymize_clips(config: Mapping[str, Any], folder: Path, rank: int, world: int, tell: Tell) -> Share:
    """Every `world`-th batch of a data module's held-out clips, anonymized here.

    Args as in `compare_files`.

    Raises:
        ConfigError: No such split, or no such kind of mask.
        PaLibError: The data module holds nothing out.
    """
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
    kind: Any = stored_kind(config["kind"] or "") or getattr(datamodule, "kind", None)
    if kind is None:
        kind = "face" if type(datamodule).__name__ == "FaceDataModule" else "body"
    if kind not in ("face", "body"):
        raise ConfigError(f"kind={kind}: expected face or body")
    metrics = build_metrics(config["metrics"])
    title = f"{type(module).__name__} on {type(datamodule).__name__}"
    share = Share({"crops": metrics}, title=title)
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
