"""What can be evaluated: pairs of files, a module on videos, a module on the clips of a data module."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

from lightning.fabric.utilities.exceptions import MisconfigurationException

from pa_lib.contracts import Kind, ProgressCallback
from pa_lib.data import AbstractDataModule, FaceDataModule
from pa_lib.errors import InputError, SettingError, listed
from pa_lib.evaluation.clips import module_results
from pa_lib.evaluation.maskers import Maskers
from pa_lib.evaluation.pairs import ClipPair, pair_clips
from pa_lib.evaluation.shard import AbstractSource, MakeMetrics, OnProgress, Shard, described, errors_named, under
from pa_lib.evaluation.videos import OpenedPair, check_alike, composited_results
from pa_lib.metrics import AbstractMetric
from pa_lib.metrics.base import Field
from pa_lib.metrics.feed import feed, missing
from pa_lib.modules.systems.base import AbstractAnonymizer
from pa_lib.paths import path_of
from pa_lib.people import AbstractMasker, check_source, read_tracks
from pa_lib.pipeline import AnonymizationPipeline, RunSettings
from pa_lib.setting_types import checked_seed
from pa_lib.video import Limits, MadeFolders, default_output, find_inputs, fingerprint, probe

Split = Literal["val", "test"]


class FilePairs(AbstractSource):
    """Originals beside their anonymized videos, measured on the files.

    Args:
        original: A video, a folder of images that is one video, or a folder of videos.
        anonymized: The anonymized video, or a folder of them, paired by name; None: where `pa-anonymize` writes them.
        tracks: Tracks file of a single video; None: the one beside the anonymized video.
        masker: Masker where neither the run's report nor the tracks file states how the masks were made; None: a
            `SilhouetteMasker` with its defaults.
        masker_settings: Settings of `masker` for the record; None: its class and plain attributes.
        is_masker_recorded: Whether the masker that the run recorded takes precedence over `masker`.
        limits: Limits on what is read.
        trusted: Packages of your own whose classes tracks files and reports may name.

    Examples::

        pa_lib.evaluate(FilePairs("clip.mp4"), [UnmaskedPSNR(), TemporalWarpingError()])
    """

    def __init__(
        self,
        original: str | Path,
        anonymized: str | Path | None = None,
        tracks: str | Path | None = None,
        *,
        masker: AbstractMasker | None = None,
        masker_settings: Mapping[str, Any] | None = None,
        is_masker_recorded: bool = True,
        limits: Limits | None = None,
        trusted: Sequence[str] = (),
    ) -> None:
        self.original = path_of(original)
        self.anonymized = None if anonymized is None else path_of(anonymized)
        self.tracks = None if tracks is None else path_of(tracks)
        self.maskers = Maskers(masker, masker_settings, is_recorded_preferred=is_masker_recorded, trusted=trusted)
        self.limits = limits or Limits()

    def measure(self, make_metrics: MakeMetrics, rank: int, world: int, on_progress: OnProgress) -> Shard:
        """Feed metrics with every `world`-th pair; see `AbstractSource.measure`."""
        pairs, lonely = pair_clips(self.original, self.anonymized, self.tracks)
        without = [pair.original.name for pair in pairs if pair.tracks is None]
        if without and len(without) < len(pairs):
            raise InputError(
                f"{len(without)} of {len(pairs)} videos have no tracks file beside them ({listed(without)}): values "
                "with masks and values without are not comparable; add the tracks files, or leave these videos out"
            )
        metrics = list(make_metrics())
        left_out = dict(line.split(": ", 1) for line in lonely)
        if without:
            metrics, missing = _without_masks(metrics)
            left_out |= missing
        own = list(enumerate(pairs))[rank::world]
        for _, pair in own:  # before an hour of work, not after
            check_alike(probe(pair.original, self.limits), probe(pair.anonymized, self.limits))
        title = f"{pairs[0].original.name} → {pairs[0].anonymized.name}" if len(pairs) == 1 else f"{len(pairs)} videos"
        shard = Shard(title, {"encoded": metrics}, left_out=left_out)
        for clip, pair in own:
            name, progress = _named(pair.original, clip, len(pairs), on_progress)
            with errors_named(name):
                opened = OpenedPair(pair, clip, self.maskers, limits=self.limits)
                for result in opened.results(progress):
                    feed(metrics, result, has_masks=opened.has_masks)
                shard.clips.append(opened.measured())
        return shard


class ModuleOnVideos(AbstractSource):
    """A module on videos that it anonymizes here, measured before and after encoding.

    Args:
        original: A video, a folder of images that is one video, or a folder of videos.
        pipeline: Pipeline that anonymizes, and finds the people where no tracks file is given.
        folder: Folder for the anonymized videos and their tracks files. Those of before are replaced one by one: give
            the path of a `pa_lib.video.StagedResults` where a failure must leave them.
        tracks: Tracks file of a single video; None: people are detected.
        masker_settings: Settings of the pipeline's masker for the record; None: its class and plain attributes.
        is_masker_recorded: Whether the masker that the tracks file records takes precedence over the pipeline's.
        seed: Seed of everything random.
        config: Configuration to record in the tracks file.
        trusted: Packages of your own whose classes the tracks file may name.
    """

    def __init__(
        self,
        original: str | Path,
        pipeline: AnonymizationPipeline,
        folder: str | Path,
        *,
        tracks: str | Path | None = None,
        masker_settings: Mapping[str, Any] | None = None,
        is_masker_recorded: bool = True,
        seed: int = 0,
        config: Mapping[str, Any] | None = None,
        trusted: Sequence[str] = (),
    ) -> None:
        self.original = path_of(original)
        self.pipeline = pipeline
        self.folder = path_of(folder)
        self.tracks = None if tracks is None else path_of(tracks)
        self.maskers = Maskers(
            pipeline.masker, masker_settings, is_recorded_preferred=is_masker_recorded, trusted=trusted
        )
        self.seed = checked_seed(seed)
        self.config = config

    def measure(self, make_metrics: MakeMetrics, rank: int, world: int, on_progress: OnProgress) -> Shard:
        """Anonymize and measure every `world`-th video; see `AbstractSource.measure`."""
        sources = find_inputs(self.original)
        if not sources:
            raise InputError(f"original={self.original}: the folder holds no video or image")
        if self.tracks is not None and len(sources) > 1:
            raise SettingError(f"tracks={self.tracks} belongs to one video, but there are {len(sources)}")
        before, after = list(make_metrics()), list(make_metrics())
        what = sources[0].name if len(sources) == 1 else f"{len(sources)} videos"
        shard = Shard(f"{what}, anonymized here", {"composited": before, "encoded": after})
        for clip, source in list(enumerate(sources))[rank::world]:
            name, progress = _named(source, clip, len(sources), on_progress)
            with errors_named(name):
                self._measure_one(source, clip, shard, progress)
        return shard

    def _measure_one(self, source: Path, clip: int, shard: Shard, progress: ProgressCallback) -> None:
        place = self.folder if source == self.original else self.folder / source.parent.relative_to(self.original)
        with MadeFolders(place):
            self._measure_into(place, source, clip, shard, progress)

    def _measure_into(self, place: Path, source: Path, clip: int, shard: Shard, progress: ProgressCallback) -> None:
        limits, write = self.pipeline.limits, self.pipeline.write
        output = default_output(probe(source, limits), place, write)
        tracks = self.tracks
        if tracks is None:
            run = RunSettings(stage="find", seed=self.seed, config=self.config)
            tracks = self.pipeline.run(source, output, run, progress).files["tracks"]
        record = read_tracks(tracks)
        check_source(record, fingerprint(source))
        masker, _, _ = self.maskers.of(None, record, tracks)
        results = composited_results(
            source,
            output,
            record,
            masker,
            self.pipeline.module,
            clip=clip,
            seed=self.seed,
            limits=limits,
            write=write,
            on_progress=progress,
        )
        for result in results:
            feed(shard.metrics["composited"], result)
        pair = ClipPair(source, output, tracks)
        opened = OpenedPair(pair, clip, self.maskers, limits=limits, module=self.pipeline.module, seed=self.seed)
        for result in opened.results(progress):
            feed(shard.metrics["encoded"], result, has_masks=opened.has_masks)
        shard.clips.append(opened.measured())


class ModuleOnClips(AbstractSource):
    """A module on the held-out clips of a data module, composited as in a video and not encoded.

    Args:
        module: The anonymizer.
        data: Clips of one person each.
        split: Split of the held-out clips: ``val`` or ``test``.
        kind: Kind of what its masks cover; None: what the data module states, faces for a `FaceDataModule`, else
            bodies.
        seed: Seed of the module.
        data_settings: Settings of the data for the record; None: its class and plain attributes.

    Raises:
        SettingError: No such split, or no such kind of mask.

    Examples::

        data = SyntheticDataModule(n_clips=24, side=64)
        pa_lib.evaluate(ModuleOnClips(ConventionalAnonymizer("blur"), data), [UnmaskedPSNR()])
    """

    def __init__(
        self,
        module: AbstractAnonymizer,
        data: AbstractDataModule,
        *,
        split: Split = "val",
        kind: Kind | None = None,
        seed: int = 0,
        data_settings: Mapping[str, Any] | None = None,
    ) -> None:
        if split not in get_args(Split):
            raise SettingError(f"split={split}: expected val or test")
        own: Kind | None = getattr(data, "kind", None)
        found: Kind = kind or own or ("face" if isinstance(data, FaceDataModule) else "body")
        if found not in get_args(Kind):
            raise SettingError(f"kind={found}: expected {' or '.join(get_args(Kind))}")
        self.module = module
        self.data = data
        self.split = split
        self.kind = found
        self.seed = checked_seed(seed)
        self.data_settings = described(data) if data_settings is None else data_settings

    def measure(self, make_metrics: MakeMetrics, rank: int, world: int, on_progress: OnProgress) -> Shard:
        """Anonymize and measure every `world`-th batch; see `AbstractSource.measure`."""
        name = type(self.data).__name__
        try:
            self.data.setup("validate" if self.split == "val" else "test")
            loader: Any = getattr(self.data, f"{self.split}_dataloader")()
            n_batches = len(loader)
        except MisconfigurationException as error:  # Lightning's answer where a module has no such loader
            raise InputError(f"data={name} has no {self.split} set; take split=val") from error
        if n_batches == 0:
            raise InputError(f"{name} holds nothing out for split={self.split}; set data.val_share above 0")
        metrics = list(make_metrics())
        shard = Shard(
            f"{type(self.module).__name__} on {name}",
            {"crops": metrics},
            data={"settings": dict(self.data_settings), "split": self.split},
        )
        own = itertools.islice(loader, rank, None, world)
        n_own = len(range(rank, n_batches, world))
        for done, result in enumerate(module_results(self.module, own, kind=self.kind, seed=self.seed), 1):
            digest = hashlib.sha256(result.source.contiguous().numpy().tobytes())
            digest.update(result.masks.contiguous().numpy().tobytes())
            shard.digests.append(digest.hexdigest())
            shard.n_clips += len(result.source)
            feed(metrics, result)
            on_progress("clips", "anonymizing, measuring", done, n_own)
        return shard


def _named(source: Path, clip: int, n_clips: int, on_progress: OnProgress) -> tuple[str, ProgressCallback]:
    """The name that errors of one file among several begin with, and its progress under a title."""
    if n_clips == 1:
        return "", under(source.name, on_progress)
    return source.name, under(f"[{clip + 1}/{n_clips}] {source.name}", on_progress)


def _without_masks(metrics: Sequence[AbstractMetric]) -> tuple[list[AbstractMetric], dict[str, str]]:
    """Metrics that do without masks, and why the others are left out.

    Raises:
        InputError: There are no others.
    """
    why = "no tracks file beside the anonymized video; give tracks=FILE"
    given: tuple[Field, ...] = ("source", "anonymized", "clip_ids", "context")
    needs = {metric.name: absent for metric in metrics if (absent := missing(metric, given))}
    kept = [metric for metric in metrics if metric.name not in needs]
    if not kept:
        raise InputError(f"{why}. {'; '.join(f'{name} needs {what}' for name, what in needs.items())}")
    return kept, {name: f"needs {what}, and there is {why}" for name, what in needs.items()}
