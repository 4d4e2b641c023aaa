"""An attack on a system over photos of known people: anonymize, train the attacker, report its success."""

from __future__ import annotations

import hashlib
import logging
import math
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, ClassVar

import lightning
import torch
from jaxtyping import Int64, UInt8
from lightning.fabric.utilities.warnings import PossibleUserWarning
from lightning.pytorch.utilities.types import STEP_OUTPUT
from torch import Tensor

from pa_lib.contracts import ClipMasks, PersonMask, ProgressCallback
from pa_lib.data import FaceDataModule
from pa_lib.errors import InputError, SettingError
from pa_lib.evaluation.shard import AbstractSource, MakeMetrics, OnProgress, Shard, described, under
from pa_lib.functional.boxes import bounding_box
from pa_lib.functional.draws import seed_of
from pa_lib.functional.head_pose import pose_of_landmarks
from pa_lib.functional.intervals import t_interval, wilson_interval
from pa_lib.metrics import Measurement, MetricValue
from pa_lib.metrics.base import hash_of_protocol
from pa_lib.modules.attackers.base import AbstractAttack, Anonymized, AttackResult, Photos
from pa_lib.modules.systems.base import AbstractAnonymizer
from pa_lib.pipeline.replaced import replaced_pictures
from pa_lib.reports.evaluation_record import MetricRecord
from pa_lib.setting_types import checked_seed

N_VIEWS = 2  # of a photo to learn from, where the system gives another result for another seed
_N_PROBED = 2
_PHOTOS_AT_ONCE = 32
_ROUNDING = 2  # of 255: networks round otherwise in batches of another size


class AttackOnFaces(AbstractSource):
    """An attacker who learns from anonymized photos of people, as a source for `evaluate`.

    Args:
        attack: The attacker.
        system: The anonymizer that is attacked.
        data: Photos of known people.
        seed: Seed of everything random: split, anonymization, training.
        data_settings: Settings of the data for the record; None: its class and plain attributes.

    Raises:
        SettingError: The data is not of faces.

    Examples::

        attack = ParrotAttack(FaceIdentity())
        pa_lib.evaluate(AttackOnFaces(attack, ConventionalAnonymizer("blur"), FaceDataModule("photos")))
    """

    is_divisible: ClassVar[bool] = False
    has_own_metrics: ClassVar[bool] = True

    def __init__(
        self,
        attack: AbstractAttack,
        system: AbstractAnonymizer,
        data: FaceDataModule,
        *,
        seed: int = 0,
        data_settings: Mapping[str, Any] | None = None,
    ) -> None:
        if not isinstance(data, FaceDataModule):
            raise SettingError(f"attack= needs photos of known people: data=faces, got a {type(data).__name__}")
        self.attack = attack
        self.system = system
        self.data = data
        self.seed = checked_seed(seed)
        self.data_settings = described(data) if data_settings is None else data_settings

    def measure(self, make_metrics: MakeMetrics, rank: int, world: int, on_progress: OnProgress) -> Shard:
        """Run the attack; see `AbstractSource.measure`."""
        photos = face_photos(self.data)
        name, protocol = self.attack.name, self.attack.protocol()
        measured = run_attack(self.attack, self.system, photos, seed=self.seed, on_progress=under(name, on_progress))
        tracks = tuple(measured.tracks)
        record = MetricRecord(
            name, "attack", protocol, hash_of_protocol(name, protocol), tuple(measured.values), tracks
        )
        return Shard(
            f"{type(self.attack).__name__} on {type(self.system).__name__}",
            records=[record],
            data={"settings": dict(self.data_settings), "n_clips": len(photos), "sha256": digest_of(photos)},
        )


def run_attack(
    attack: AbstractAttack,
    system: AbstractAnonymizer,
    photos: Photos,
    *,
    seed: int = 0,
    on_progress: ProgressCallback | None = None,
) -> Measurement:
    """Train an attack on photos that a system anonymized, and measure it on photos that it has not seen.

    What is attacked is the composite: anonymized under the mask, the source elsewhere. If the result of the system
    depends on the seed, every photo gets a seed of its own, and photos to learn from are anonymized several times.

    Args:
        attack: The attacker. It is prepared and trained here, and keeps the weights that did best in its validation.
        system: The anonymizer that is attacked.
        photos: Photos of people; some people have two photos or more.
        seed: Seed of the split, anonymization and training. The same seed gives the same measurement.
        on_progress: Callback with (task, steps done, steps in all).

    Returns:
        Values with 95 % intervals: Wilson's for rates, Student's t for means.

    Raises:
        PaLibError: Too few people or photos, or a system that fails on one.
    """
    with _seeded(seed):
        n_views = N_VIEWS if _depends_on_seed(system, photos) else 1
        seen = anonymized_views(system, photos, attack.views(photos, n_views), seed, on_progress)
        attack.prepare(seen)
        if attack.max_epochs > 0:
            _fit(attack, on_progress)
        return Measurement(tuple(_value(result) for result in attack.results()))


def face_photos(data: FaceDataModule) -> Photos:
    """The portraits of a data set with the landmarks that its index gives, of both sides of its split, unaugmented.

    Columns ``eye1_x … eye2_y``, and ``nose_x … mouth2_y`` beside them where they are there; a point that the index does
    not give is put where it lies in the face box of an average face.

    Raises:
        PaLibError: The index names no people, or is wrong.
    """
    photos = list(data.photos())
    if not photos:
        raise InputError(f"data {data.path}: no faces to attack")
    names: dict[str, int] = {}
    return Photos(
        torch.stack([photo.frame for photo in photos]),
        torch.stack([photo.mask[None] for photo in photos]),
        torch.tensor([names.setdefault(photo.person, len(names)) for photo in photos]),
        torch.stack([photo.landmarks for photo in photos]),
    )


def digest_of(photos: Photos) -> str:
    """Identity of a set of photos: sha256 of their pixels, masks and people, hex."""
    digest = hashlib.sha256(photos.frames.contiguous().numpy().tobytes())
    for part in (photos.masks, photos.people):
        digest.update(part.contiguous().numpy().tobytes())
    return digest.hexdigest()


def _depends_on_seed(system: AbstractAnonymizer, photos: Photos) -> bool:
    rows = torch.arange(min(_N_PROBED, len(photos)))
    first, second = (anonymized_photos(system, photos, rows, seed=seed) for seed in (0, 1))
    return not torch.equal(first, second)


def anonymized_photos(
    system: AbstractAnonymizer, photos: Photos, rows: Int64[Tensor, " k"], *, seed: int = 0
) -> UInt8[Tensor, "k 3 h w"]:
    """Anonymize many photos in one call: as a clip in which every frame shows another person.

    The same as one by one for every system that looks at each person alone, and several times as fast where it works
    on batches. Every photo has a person number of its own, and so noise and a replacement of its own. The pose of its
    head is that of its landmarks.

    Args:
        system: The anonymizer.
        photos: The photos.
        rows: Rows of the photos to anonymize, each once.
        seed: Seed of the system. The same seed and rows give the same pictures.

    Returns:
        Anonymized under the mask, and where the system extends it; the source elsewhere.

    Raises:
        PaLibError: A row comes twice, or a mask is empty.
    """
    if len(torch.unique(rows)) < len(rows):
        raise SettingError("a photo is asked for twice in one call: expected each once; take another seed for another")
    masks = []
    for at, row in enumerate(rows.tolist()):
        alpha = photos.masks[row, 0]
        box = bounding_box(alpha)
        if box is None:
            raise InputError(f"photo {row} has an empty mask: nothing in it would be anonymized")
        pose = pose_of_landmarks(photos.landmarks[row])
        masks.append(PersonMask(row + 1, at, box[0].start, box[1].start, alpha[box], kind="face", pose=pose))
    frames = photos.frames[rows]
    return replaced_pictures(frames, ClipMasks(tuple(masks), len(rows), *frames.shape[2:]), system, seed=seed)


def anonymized_views(
    system: AbstractAnonymizer, photos: Photos, views: Tensor, seed: int, on_progress: ProgressCallback | None = None
) -> Anonymized:
    """Anonymize every photo several times, each time with another seed.

    Args:
        system: The anonymizer.
        photos: The photos.
        views: Number of times that each photo is anonymized, shape n; 0 = not at all.
        seed: Seed from which the seeds of all runs are derived.
        on_progress: Callback with (``anonymize``, pictures done, pictures in all).
    """
    runs = torch.tensor([(photo, view) for photo, n in enumerate(views.tolist()) for view in range(n)])
    frames = torch.empty(len(runs), *photos.frames.shape[1:], dtype=torch.uint8)
    size = _PHOTOS_AT_ONCE if _looks_at_each_alone(system, photos) else 1
    done = 0
    for view in range(int(views.max())):
        for some in torch.split((runs[:, 1] == view).nonzero()[:, 0], size):
            rows = runs[some, 0]
            keys = (seed, int(rows[0]), view)  # one more view is one more seed
            frames[some] = anonymized_photos(system, photos, rows, seed=seed_of(*keys))
            done += len(some)
            if on_progress is not None:
                on_progress("anonymize", done, len(runs))
    return Anonymized(photos, frames, runs[:, 0])


def _looks_at_each_alone(system: AbstractAnonymizer, photos: Photos) -> bool:
    """Whether photos may be handed over together: each turns into what it turns into by itself, but for rounding."""
    rows = torch.arange(min(_N_PROBED, len(photos)))
    together = anonymized_photos(system, photos, rows).int()
    alone = torch.cat([anonymized_photos(system, photos, row) for row in torch.split(rows, 1)]).int()
    return int((together - alone).abs().max()) <= _ROUNDING


def _fit(attack: AbstractAttack, on_progress: ProgressCallback | None) -> None:
    with _quiet(), tempfile.TemporaryDirectory() as folder:
        trainer = lightning.Trainer(
            max_epochs=attack.max_epochs,
            devices=1,
            default_root_dir=folder,
            callbacks=[] if on_progress is None else [_Steps(on_progress)],
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
        )
        trainer.fit(attack)


@contextmanager
def _quiet() -> Iterator[None]:
    """No banners and tips. Loaders read from memory, where workers would only copy it."""
    talkers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
    levels = [talker.level for talker in talkers]
    with warnings.catch_warnings():
        for category in (PossibleUserWarning, DeprecationWarning, FutureWarning):
            warnings.filterwarnings("ignore", category=category)
        # The face network has neither norms nor dropout, so that its mode says nothing.
        warnings.filterwarnings("ignore", ".*module.s. in eval mode.*")
        for talker in talkers:
            talker.setLevel(logging.WARNING)
        try:
            yield
        finally:
            for talker, level in zip(talkers, levels, strict=True):
                talker.setLevel(level)


class _Steps(lightning.Callback):
    """Reports how many training steps of how many are done."""

    def __init__(self, on_progress: ProgressCallback) -> None:
        self.on_progress = on_progress

    def on_train_batch_end(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        outputs: STEP_OUTPUT,
        batch: Any,
        batch_idx: int,
    ) -> None:
        self.on_progress("learn", trainer.global_step, int(trainer.estimated_stepping_batches))


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Everything below draws from this seed, and the caller's generators go on as if nothing had been drawn."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        yield


def _value(result: AttackResult) -> MetricValue:
    values = result.values.double()
    n, mean = len(values), float(values.mean()) if len(values) else math.nan
    interval = None
    if n and result.has_interval:
        interval = wilson_interval(float(values.sum()), n) if result.is_rate else t_interval(values)
    return MetricValue(
        result.name, mean, n, result.n_of, result.what, result.is_higher_better, interval, result.counted
    )
