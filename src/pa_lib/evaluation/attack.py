"""An attack on a system over photos of known people: anonymize, let the attacker learn, say what he found out."""

from __future__ import annotations

import logging
import math
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import lightning
import numpy as np
import torch
from jaxtyping import Int64, UInt8
from lightning.fabric.utilities.warnings import PossibleUserWarning
from lightning.pytorch.utilities.types import STEP_OUTPUT
from torch import Tensor

from pa_lib.contracts import Clip, ClipMasks, PersonMask
from pa_lib.data.faces import FaceClipSet, FaceDataModule
from pa_lib.errors import PaLibError
from pa_lib.functional import composite
from pa_lib.functional.boxes import bounding_box
from pa_lib.functional.draws import seed_of
from pa_lib.functional.intervals import t_interval, wilson_interval
from pa_lib.metrics import Measurement, MetricValue
from pa_lib.modules.attackers.base import AbstractAttack, Anonymized, Outcome, Photos
from pa_lib.modules.systems.base import AbstractAnonymizer

Progress = Callable[[str, int, int], None]
"""What is being done (``anonymize``, ``learn``), how much of it is done, and how much there is."""

N_VIEWS = 2  # of a photo to learn from, where the system gives another result for another seed
_N_PROBED = 2
_PHOTOS_AT_ONCE = 32
_ROUNDING = 2  # of 255: networks round otherwise in batches of another size


def run_attack(
    attack: AbstractAttack,
    system: AbstractAnonymizer,
    photos: Photos,
    *,
    seed: int = 0,
    progress: Progress | None = None,
) -> Measurement:
    """Let an attack learn from what a system makes of photos, and say what it finds out of photos it has not seen.

    What is attacked is the composite: anonymized under the mask, the source elsewhere. A system whose result hangs on
    the seed makes somebody of their own of every photo, and several of a photo to learn from.

    Args:
        attack: Not prepared yet; it is when this returns, with the weights that did best in its validation.
        system: What is attacked.
        photos: Of people, some of them with two photos or more.
        seed: Of everything random: split, anonymization, training. The same seed gives the same measurement.
        progress: Told what is done; None = nobody.

    Returns:
        Figures with 95 % intervals: Wilson's for rates, Student's t for means.

    Raises:
        PaLibError: Too few people or photos, or a system that fails on one.
    """
    with _seeded(seed):
        n_views = N_VIEWS if _hangs_on_seed(system, photos) else 1
        seen = _anonymized(system, photos, attack.views(photos, n_views), seed, progress)
        attack.prepare(seen)
        if attack.max_epochs > 0:
            _fit(attack, progress)
        return Measurement(tuple(_figure(outcome) for outcome in attack.outcomes()))


def face_photos(data: FaceDataModule) -> Photos:
    """The portraits of a data set with the landmarks that its index gives, of both sides of its split, unaugmented.

    Columns ``eye1_x … eye2_y``, and ``nose_x … mouth2_y`` beside them where they are there; a point that the index does
    not give is put where it lies in the face box of an average face.

    Raises:
        PaLibError: The index names no people, or is wrong.
    """
    frames, masks, people, landmarks = [], [], [], []
    names: dict[str, int] = {}
    for clips in (data.train_set, data.val_set):
        if clips is None:
            continue
        assert isinstance(clips, FaceClipSet)
        still = FaceClipSet(
            clips.tree,
            clips.faces,
            clips.identities,
            n_frames=1,
            side=clips.side,
            head_scale=clips.head_scale,
            motion=0.0,
            light=0.0,
            seed=clips.seed,
        )
        for index, face in enumerate(clips.faces):
            sample = still[index]
            frames.append((sample.frames[0] * 255).round().byte())
            masks.append(sample.mask[0])
            people.append(names.setdefault(face.group or f"line {face.row.line}", len(names)))
            height, width = clips.tree.picture(face.file).shape[-2:]
            # The frame is the largest square around the middle of the face that lies within the image.
            square = min(height, width)
            centre = np.array([face.box[0] + face.box[2] / 2, face.box[1] + face.box[3] / 2])
            centre = np.clip(centre, square / 2, np.array([width, height]) - square / 2)
            landmarks.append((_points(face.row, face.box) - centre + square / 2) * (clips.side / square))
    if not frames:
        raise PaLibError(f"data {data.path}: no faces to attack")
    return Photos(
        torch.stack(frames),
        torch.stack(masks),
        torch.tensor(people),
        torch.from_numpy(np.stack(landmarks).astype(np.float32)),
    )


# Where the five points lie in the face box (brow to chin), as shares of its sides: means over 3401 portraits.
_MEAN_POINTS = {
    "eye1": (0.27, 0.39),
    "eye2": (0.74, 0.39),
    "nose": (0.51, 0.59),
    "mouth1": (0.31, 0.74),
    "mouth2": (0.71, 0.73),
}


def _points(row: Any, box: tuple[float, float, float, float]) -> np.ndarray[Any, np.dtype[np.float64]]:
    points = []
    for name, (across, down) in _MEAN_POINTS.items():
        if row.get(f"{name}_x") and row.get(f"{name}_y"):
            points.append((row.number(f"{name}_x"), row.number(f"{name}_y")))
        else:
            points.append((box[0] + across * box[2], box[1] + down * box[3]))
    return np.array(points)


def _hangs_on_seed(system: AbstractAnonymizer, photos: Photos) -> bool:
    rows = torch.arange(min(_N_PROBED, len(photos)))
    first, second = (anonymized_photos(system, photos, rows, seed=seed) for seed in (0, 1))
    return not torch.equal(first, second)


def anonymized_photos(
    system: AbstractAnonymizer, photos: Photos, rows: Int64[Tensor, " k"], *, seed: int = 0
) -> UInt8[Tensor, "k 3 h w"]:
    """Photos with somebody new in them, many in one call: as a clip in which every frame shows another person.

    The same as one by one for every system that looks at each person alone, and several times as fast where it works
    on batches. Everybody has a number of their own, so that they have noise of their own.

    Args:
        system: What paints.
        photos: All photos.
        rows: Which of them, each once.
        seed: The same seed and rows give the same pictures.

    Returns:
        Painted under the mask, the source elsewhere.

    Raises:
        PaLibError: A row comes twice, or a mask is empty.
    """
    if len(torch.unique(rows)) < len(rows):
        raise PaLibError("a photo is asked for twice in one call: expected each once; take another seed for another")
    masks = []
    for at, row in enumerate(rows.tolist()):
        alpha = photos.masks[row, 0]
        box = bounding_box(alpha)
        if box is None:
            raise PaLibError(f"photo {row} has an empty mask: nobody would be anonymized in it")
        masks.append(PersonMask(row + 1, at, box[0].start, box[1].start, alpha[box], kind="face"))
    frames = photos.frames[rows]
    made = system.anonymize(Clip(frames), ClipMasks(tuple(masks), len(rows), *frames.shape[2:]), seed=seed)
    return composite(frames, made.frames.cpu(), photos.masks[rows])


def _anonymized(
    system: AbstractAnonymizer, photos: Photos, views: Tensor, seed: int, progress: Progress | None
) -> Anonymized:
    wanted = torch.tensor([(photo, view) for photo, n in enumerate(views.tolist()) for view in range(n)])
    frames = torch.empty(len(wanted), *photos.frames.shape[1:], dtype=torch.uint8)
    size = _PHOTOS_AT_ONCE if _looks_at_each_alone(system, photos) else 1
    done = 0
    for view in range(int(views.max())):
        for some in torch.split((wanted[:, 1] == view).nonzero()[:, 0], size):
            rows = wanted[some, 0]
            keys = (seed, int(rows[0]), view)  # one more view is one more seed
            frames[some] = anonymized_photos(system, photos, rows, seed=seed_of(*keys))
            done += len(some)
            if progress is not None:
                progress("anonymize", done, len(wanted))
    return Anonymized(photos, frames, wanted[:, 0])


def _looks_at_each_alone(system: AbstractAnonymizer, photos: Photos) -> bool:
    """Whether photos may be handed over together: each turns into what it turns into by itself, but for rounding."""
    rows = torch.arange(min(_N_PROBED, len(photos)))
    together = anonymized_photos(system, photos, rows).int()
    alone = torch.cat([anonymized_photos(system, photos, row) for row in torch.split(rows, 1)]).int()
    return int((together - alone).abs().max()) <= _ROUNDING


def _fit(attack: AbstractAttack, progress: Progress | None) -> None:
    with _quiet(), tempfile.TemporaryDirectory() as folder:
        trainer = lightning.Trainer(
            max_epochs=attack.max_epochs,
            devices=1,
            default_root_dir=folder,
            callbacks=[] if progress is None else [_Told(progress)],
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


class _Told(lightning.Callback):
    """Tells how many steps of how many are done."""

    def __init__(self, progress: Progress) -> None:
        self.progress = progress

    def on_train_batch_end(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        outputs: STEP_OUTPUT,
        batch: Any,
        batch_idx: int,
    ) -> None:
        self.progress("learn", trainer.global_step, int(trainer.estimated_stepping_batches))


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Everything below draws from this seed, and the caller's generators go on as if nothing had been drawn."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        yield


def _figure(outcome: Outcome) -> MetricValue:
    values = outcome.values.double()
    n, mean = len(values), float(values.mean()) if len(values) else math.nan
    interval = None
    if n and outcome.has_interval:
        interval = wilson_interval(float(values.sum()), n) if outcome.is_rate else t_interval(values)
    return MetricValue(
        outcome.name, mean, n, outcome.n_of, outcome.what, outcome.is_higher_better, interval, outcome.counted
    )
