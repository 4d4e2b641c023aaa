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
from lightning.fabric.utilities.warnings import PossibleUserWarning
from lightning.pytorch.utilities.types import STEP_OUTPUT
from scipy import stats
from torch import Tensor

from pa_lib.contracts import Clip, ClipMasks, PaLibError, PersonMask
from pa_lib.data.faces import FaceClipSet, FaceDataModule
from pa_lib.functional import composite
from pa_lib.functional.reid import wilson_interval
from pa_lib.metrics import Figure, Measurement
from pa_lib.modules.attackers.base import AbstractAttack, Anonymized, Outcome, Photos
from pa_lib.modules.systems.base import AbstractAnonymizer

Progress = Callable[[str, int, int], None]
"""What is being done (``anonymize``, ``learn``), how much of it is done, and how much there is."""

N_VIEWS = 2  # of a photo to learn from, where the system gives another result for another seed
_N_PROBED = 2


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
    the seed is run with a seed of its own for every photo, and several times on photos to learn from.

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
    return any(
        not torch.equal(_one(system, photos, photo, 0), _one(system, photos, photo, 1))
        for photo in range(min(_N_PROBED, len(photos)))
    )


def _anonymized(
    system: AbstractAnonymizer, photos: Photos, views: Tensor, seed: int, progress: Progress | None
) -> Anonymized:
    wanted = [(photo, view) for photo, n in enumerate(views.tolist()) for view in range(n)]
    frames = torch.empty(len(wanted), *photos.frames.shape[1:], dtype=torch.uint8)
    for done, (photo, view) in enumerate(wanted):
        frames[done] = _one(
            system, photos, photo, int(np.random.SeedSequence((seed, photo, view)).generate_state(1)[0])
        )
        if progress is not None:
            progress("anonymize", done + 1, len(wanted))
    return Anonymized(photos, frames, torch.tensor([photo for photo, _ in wanted]))


def _one(system: AbstractAnonymizer, photos: Photos, photo: int, seed: int) -> Tensor:
    frame, alpha = photos.frames[photo], photos.masks[photo, 0]
    rows, columns = alpha.amax(1).nonzero()[:, 0], alpha.amax(0).nonzero()[:, 0]
    if not len(rows):
        raise PaLibError(f"photo {photo} has an empty mask: nobody would be anonymized in it")
    top, left = int(rows[0]), int(columns[0])
    mask = PersonMask(1, 0, top, left, alpha[top : int(rows[-1]) + 1, left : int(columns[-1]) + 1], kind="face")
    made = system.anonymize(Clip(frame[None]), ClipMasks((mask,), 1, *alpha.shape), seed=seed)
    return composite(frame[None], made.frames.cpu(), alpha[None, None])[0]


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


def _figure(outcome: Outcome) -> Figure:
    values = outcome.values.double()
    n, mean = len(values), float(values.mean()) if len(values) else math.nan
    interval = None
    if n and outcome.has_interval:
        interval = wilson_interval(float(values.sum()), n) if outcome.is_rate else _student(values)
    return Figure(
        outcome.name, mean, n, outcome.n_of, outcome.what, outcome.is_higher_better, interval, outcome.counted
    )


def _student(values: Tensor) -> tuple[float, float] | None:
    if len(values) < 2:
        return None
    half = float(stats.t.ppf(0.975, len(values) - 1)) * float(values.std()) / math.sqrt(len(values))
    return float(values.mean()) - half, float(values.mean()) + half
