"""Whether a system reproduces people of its training data: how near its faces come to the nearest training face.

The baseline is other people: a face that was never seen in training has a nearest training face, too, among as many.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64, UInt8
from torch import Tensor

from pa_lib.data import FaceDataModule
from pa_lib.errors import InputError, SettingError
from pa_lib.evaluation.attack import anonymized_views, digest_of, face_photos
from pa_lib.evaluation.shard import AbstractSource, MakeMetrics, OnProgress, Shard, described, under
from pa_lib.functional.intervals import t_interval, wilson_interval, within
from pa_lib.metrics import MetricValue
from pa_lib.metrics.base import hash_of_protocol
from pa_lib.modules.systems.base import AbstractAnonymizer
from pa_lib.pretrained import FaceIdentity
from pa_lib.reports.evaluation_record import MetricRecord
from pa_lib.setting_types import checked_seed

QUANTILES = (0.0, 0.01, 0.05, 0.25, 0.5, 0.75, 0.95)
TAIL = 0.05
_CHUNK = 256  # pictures at a time against all training faces
_CHIPS = 32  # faces at a time in the network


class MemorizationOnFaces(AbstractSource):
    """Whether a generative system reproduces its training faces, as a source for `evaluate`.

    Held-out and training photos are anonymized, and the faces in them are compared with the training faces, beside the
    held-out photos as they are. See `docs/metrics/memorization.md`.

    Args:
        system: The anonymizer. It must have been trained on the training side of `data`, else nothing is learned here.
        data: The photos of its training, with the same split.
        identity: dlib's face network.
        n_views: Number of times that each held-out photo is anonymized, each time with another seed, >= 1.
        seed: Seed from which all others are derived.
        data_settings: Settings of the data for the record; None: its class and plain attributes.

    Raises:
        SettingError: A setting is out of range, or the data is not of faces.
    """

    is_divisible: ClassVar[bool] = False
    has_own_metrics: ClassVar[bool] = True
    name: ClassVar[str] = "memorization"

    def __init__(
        self,
        system: AbstractAnonymizer,
        data: FaceDataModule,
        identity: FaceIdentity,
        *,
        n_views: int = 1,
        seed: int = 0,
        data_settings: Mapping[str, Any] | None = None,
    ) -> None:
        if not isinstance(data, FaceDataModule):
            raise SettingError(f"attack= needs photos of known people: data=faces, got a {type(data).__name__}")
        if n_views < 1:
            raise SettingError(f"n_views {n_views}: expected at least 1")
        self.system = system
        self.data = data
        self.identity = identity
        self.n_views = n_views
        self.seed = checked_seed(seed)
        self.data_settings = described(data) if data_settings is None else data_settings

    def measure(self, make_metrics: MakeMetrics, rank: int, world: int, on_progress: OnProgress) -> Shard:
        """Anonymize the photos and compare the faces; see `AbstractSource.measure`."""
        photos = face_photos(self.data)
        # `face_photos` gives the training side first.
        n_training = len(self.data.train_set or ())
        training, held_out = torch.arange(n_training), torch.arange(n_training, len(photos))
        if not len(held_out):
            raise InputError(
                f"data {self.data.path} holds no photo out: there is nothing to compare training faces with"
            )
        views = torch.ones(len(photos), dtype=torch.int64)
        views[held_out] = self.n_views
        made = anonymized_views(self.system, photos, views, self.seed, under(self.name, on_progress))
        threshold = self.identity.same_person_distance
        known = face_identities(self.identity, photos.frames[training], photos.landmarks[training])
        real = face_identities(self.identity, photos.frames[held_out], photos.landmarks[held_out])
        own = photos.people[held_out][:, None] == photos.people[training]
        near = {"real": nearest_faces(real, known, threshold, own)}
        for kind, rows in (("generated", made.rows(held_out)), ("generated_training", made.rows(training))):
            faces = face_identities(self.identity, made.frames[rows], photos.landmarks[made.photo[rows]])
            near[kind] = nearest_faces(faces, known, threshold)
        tail = quantiles(near["real"], (TAIL,))[TAIL]
        values = {kind: closeness(kind, of, threshold, tail) for kind, of in near.items()}
        theirs = photos.people[made.photo[made.rows(training)]]
        n_own = int((photos.people[training[near["generated_training"].face]] == theirs).sum())
        values["generated_training"] = tuple(
            replace(value, counted={"nearest face is of the person of the photo": n_own})
            for value in values["generated_training"]
        )
        protocol = self.protocol(n_training, photos.frames.shape[-1])
        every = (*values["generated"], *values["generated_training"], *values["real"])
        record = MetricRecord(self.name, "attack", protocol, hash_of_protocol(self.name, protocol), every)
        return Shard(
            f"Memorization of {type(self.system).__name__}",
            records=[record],
            data={"settings": dict(self.data_settings), "n_clips": len(photos), "sha256": digest_of(photos)},
            notes=[
                f"{value.name} is {'within' if is_no_more_frequent(value, other) else 'ABOVE'} what the interval of "
                "real held-out faces allows"
                for kind in ("generated", "generated_training")
                for value, other in zip(values[kind], values["real"], strict=True)
                if not value.is_higher_better
            ],
        )

    def protocol(self, n_training: int, side: int) -> dict[str, Any]:
        """What it takes to reproduce the values: plain JSON values.

        Args:
            n_training: Number of training faces.
            side: Side length of the pictures in pixels.
        """
        return {
            "network": "dlib ResNet-29, Euclidean",
            "same_person_distance": self.identity.same_person_distance,
            "aligned": "by the original's landmarks",
            "picture_px": side,
            "training_faces": n_training,
            "n_views": self.n_views,
            "tail": TAIL,
            "seed": self.seed,
        }


@dataclass(frozen=True, eq=False)
class NearestFaces:
    """For each picture, how near the training faces are.

    Args:
        distance: Distance to the nearest training face, shape n.
        face: Row of the nearest training face, shape n.
        near_share: Share of all training faces that are nearer than the threshold, shape n, in [0, 1].
        n_faces: Number of training faces that each picture was compared with.
    """

    distance: Float[Tensor, " n"]
    face: Int64[Tensor, " n"]
    near_share: Float[Tensor, " n"]
    n_faces: int

    def __len__(self) -> int:
        return len(self.distance)


def nearest_faces(
    pictures: Float[Tensor, "n d"],
    training: Float[Tensor, "m d"],
    threshold: float,
    own: Bool[Tensor, "n m"] | None = None,
) -> NearestFaces:
    """The nearest training face of every picture, by Euclidean distance in float64.

    Args:
        pictures: Embeddings of the pictures, as `face_identities` gives them.
        training: Embeddings of the faces that the system was trained on.
        threshold: Distance below which two faces count as one person, > 0.
        own: Whether a training face shows the very person of the picture and is left out. Every picture must have as
            many left as the others: the nearest of more faces is nearer.

    Raises:
        SettingError: Shapes that do not fit, or pictures with more faces than others.
        InputError: Identities that are not finite.

    >>> faces = nearest_faces(torch.tensor([[0.0], [5.0]]), torch.tensor([[1.0], [2.0]]), 1.5)
    >>> faces.distance.tolist(), faces.face.tolist(), faces.near_share.tolist()
    ([1.0, 3.0], [0, 1], [0.5, 0.0])
    """
    if pictures.ndim != 2 or training.ndim != 2 or pictures.shape[1] != training.shape[1] or not len(training):
        raise SettingError(
            f"identities of shape {tuple(pictures.shape)} and {tuple(training.shape)}: expected n d and m d, m > 0"
        )
    if not (pictures.isfinite().all() and training.isfinite().all()):
        raise InputError("identities that are not finite: leave out the faces that the network could not read")
    if not threshold > 0:
        raise SettingError(f"threshold {threshold}: expected a distance above 0")
    n_faces = len(training)
    if own is not None:
        if tuple(own.shape) != (len(pictures), len(training)):
            raise SettingError(f"own has shape {tuple(own.shape)}, expected {(len(pictures), len(training))}")
        left = (~own).sum(1)
        if len(left) and (int(left.min()) != int(left.max()) or int(left.min()) == 0):
            raise SettingError(
                f"pictures are compared with {int(left.min())} to {int(left.max())} faces: expected one number above 0 "
                "for all; the nearest of more faces is nearer"
            )
        n_faces = int(left[0]) if len(left) else n_faces
    distances, places, shares = [], [], []
    for start in range(0, len(pictures), _CHUNK):
        here = slice(start, start + _CHUNK)
        # By differences: the matrix product loses the digits of small distances, which are the ones that matter.
        apart = torch.cdist(pictures[here].double(), training.double(), compute_mode="donot_use_mm_for_euclid_dist")
        if own is not None:
            apart = apart.masked_fill(own[here], math.inf)
        smallest, at = apart.min(1)
        distances.append(smallest)
        places.append(at)
        shares.append((apart < threshold).double().sum(1) / n_faces)
    if not distances:
        nothing = torch.zeros(0, dtype=torch.float64)
        return NearestFaces(nothing, torch.zeros(0, dtype=torch.int64), nothing, n_faces)
    return NearestFaces(torch.cat(distances), torch.cat(places), torch.cat(shares), n_faces)


def quantiles(nearest: NearestFaces, shares: Sequence[float] = QUANTILES) -> dict[float, float]:
    """Distances to the nearest training face below which lie these shares of the pictures; NaN without pictures."""
    if not len(nearest):
        return dict.fromkeys(shares, math.nan)
    found = torch.quantile(nearest.distance, torch.tensor(list(shares), dtype=torch.float64))
    return dict(zip(shares, found.tolist(), strict=True))


def closeness(name: str, nearest: NearestFaces, threshold: float, tail: float | None = None) -> tuple[MetricValue, ...]:
    """The values of one kind of pictures.

    Args:
        name: Name of the kind, in snake case.
        nearest: Nearest training faces of its pictures; `near_share` by the same threshold.
        threshold: Distance below which two faces count as one person.
        tail: Distance below which lie `TAIL` of the nearest training faces of people never seen in training; None
            leaves that value out.

    Returns:
        ``memorized_<name>``: share of pictures whose nearest training face is nearer than the threshold.
        ``near_pairs_<name>``: share of all pairs of a picture and a training face that are.
        ``nearest_face_<name>``: mean distance to the nearest one. ``tail_<name>``: share of pictures nearer than
        `tail`; `TAIL` is what other people have. Intervals at 95 %: Wilson's for shares of pictures, Student's t over
        pictures for the others.
    """
    n, of = len(nearest), f"against {nearest.n_faces} training faces"
    pairs, means = nearest.near_share, nearest.distance
    values = [
        _share(f"memorized_{name}", nearest.distance < threshold, f"nearest within {threshold:g}, {of}"),
        MetricValue(
            f"near_pairs_{name}",
            float(pairs.mean()) if n else math.nan,
            n,
            "pictures",
            f"share of pairs within {threshold:g}, {of}",
            False,
            within(t_interval(pairs), 0.0, 1.0),
        ),
        MetricValue(
            f"nearest_face_{name}",
            float(means.mean()) if n else math.nan,
            n,
            "pictures",
            f"mean distance to the nearest, {of}",
            True,
            within(t_interval(means), 0.0, math.inf),
        ),
    ]
    if tail is not None:
        values.append(_share(f"tail_{name}", nearest.distance < tail, f"nearest within {tail:.3f}, {of}"))
    return tuple(values)


def is_no_more_frequent(generated: MetricValue, real: MetricValue) -> bool:
    """Whether a share among generated faces is at most what the interval of the same share among real ones allows.

    Raises:
        InputError: One of them is of no pictures at all.
    """
    if real.interval is None or math.isnan(generated.value) or math.isnan(real.value):
        raise InputError(f"{generated.name} of {generated.n} and {real.name} of {real.n}: expected pictures in both")
    return generated.value <= real.interval[1]


@torch.no_grad()
def face_identities(
    network: FaceIdentity, frames: UInt8[Tensor, "n 3 h w"], landmarks: Float[Tensor, "n 5 2"]
) -> Float[Tensor, "n d"]:
    """Identities of one face to a picture, set upright by given landmarks whether a face is seen there or not.

    Args:
        network: dlib's face network.
        frames: The pictures.
        landmarks: Landmarks of the original in pixels.
    """
    identities = [torch.zeros(0, network.n_dimensions)]
    for start in range(0, len(frames), _CHIPS):
        chips = [
            network.chips(np.ascontiguousarray(frame.permute(1, 2, 0).numpy()), points[None].numpy())
            for frame, points in zip(frames[start : start + _CHIPS], landmarks[start : start + _CHIPS], strict=True)
        ]
        identities.append(network(torch.cat(chips)).cpu())
    return torch.cat(identities)


def _share(name: str, hits: Bool[Tensor, " n"], what: str) -> MetricValue:
    n, found = len(hits), int(hits.sum())
    return MetricValue(
        name, found / n if n else math.nan, n, "pictures", what, False, wilson_interval(found, n) if n else None
    )
