"""Whether a system paints the people it was trained on: how near its faces come to the nearest training face.

The yardstick is other people: somebody who was never seen in training has a nearest training face, too, among as many.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64, UInt8
from torch import Tensor

from pa_lib.errors import PaLibError
from pa_lib.functional.intervals import t_interval, wilson_interval, within
from pa_lib.metrics import MetricValue
from pa_lib.pretrained import FaceIdentity

QUANTILES = (0.0, 0.01, 0.05, 0.25, 0.5, 0.75, 0.95)
TAIL = 0.05
_CHUNK = 256  # pictures at a time against all training faces
_CHIPS = 32  # faces at a time in the network


@dataclass(frozen=True, eq=False)
class NearestFaces:
    """For each picture, how near the training faces are.

    Args:
        distance: Shape n: to the nearest one.
        face: Shape n: which one that is, a row of the training faces.
        near_share: Shape n: the share of all that are nearer than the threshold, in [0, 1].
        n_faces: How many each picture was compared with.
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
        pictures: Identities, as `face_identities` gives them.
        training: Those of the faces that the system was trained on.
        threshold: Below this distance two faces count as one person, > 0.
        own: True where a training face shows the very person of the picture and is left out. Every picture must have
            as many left as the others: the nearest of more faces is nearer.

    Raises:
        PaLibError: Shapes that do not fit, identities that are not finite, or pictures with more faces than others.

    >>> faces = nearest_faces(torch.tensor([[0.0], [5.0]]), torch.tensor([[1.0], [2.0]]), 1.5)
    >>> faces.distance.tolist(), faces.face.tolist(), faces.near_share.tolist()
    ([1.0, 3.0], [0, 1], [0.5, 0.0])
    """
    if pictures.ndim != 2 or training.ndim != 2 or pictures.shape[1] != training.shape[1] or not len(training):
        raise PaLibError(
            f"identities of shape {tuple(pictures.shape)} and {tuple(training.shape)}: expected n d and m d, m > 0"
        )
    if not (pictures.isfinite().all() and training.isfinite().all()):
        raise PaLibError("identities that are not finite: leave out the faces that the network could not read")
    if not threshold > 0:
        raise PaLibError(f"threshold {threshold}: expected a distance above 0")
    n_faces = len(training)
    if own is not None:
        if tuple(own.shape) != (len(pictures), len(training)):
            raise PaLibError(f"own has shape {tuple(own.shape)}, expected {(len(pictures), len(training))}")
        left = (~own).sum(1)
        if len(left) and (int(left.min()) != int(left.max()) or int(left.min()) == 0):
            raise PaLibError(
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
    """What is to be said about one kind of pictures.

    Args:
        name: Of the kind, in snake case.
        nearest: Its pictures; `near_share` by the same threshold.
        threshold: Below this distance two faces count as one person.
        tail: The distance below which lie `TAIL` of the nearest training faces of people never seen in training; None
            leaves that figure out.

    Returns:
        ``memorized_<name>``: share of pictures whose nearest training face is nearer than the threshold.
        ``near_pairs_<name>``: share of all pairs of a picture and a training face that are.
        ``nearest_face_<name>``: mean distance to the nearest one. ``tail_<name>``: share of pictures nearer than
        `tail`; `TAIL` is what other people have. Intervals at 95 %: Wilson's for shares of pictures, Student's t over
        pictures for the others.
    """
    n, of = len(nearest), f"against {nearest.n_faces} training faces"
    pairs, means = nearest.near_share, nearest.distance
    figures = [
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
        figures.append(_share(f"tail_{name}", nearest.distance < tail, f"nearest within {tail:.3f}, {of}"))
    return tuple(figures)


def is_no_more_frequent(generated: MetricValue, real: MetricValue) -> bool:
    """Whether a share among generated faces is at most what the interval of the same share among real ones allows.

    Raises:
        PaLibError: One of them is of no pictures at all.
    """
    if real.interval is None or math.isnan(generated.value) or math.isnan(real.value):
        raise PaLibError(f"{generated.name} of {generated.n} and {real.name} of {real.n}: expected pictures in both")
    return generated.value <= real.interval[1]


@torch.no_grad()
def face_identities(
    network: FaceIdentity, frames: UInt8[Tensor, "n 3 h w"], landmarks: Float[Tensor, "n 5 2"]
) -> Float[Tensor, "n d"]:
    """Identities of one face to a picture, set upright by given landmarks whether a face is seen there or not.

    Args:
        network: dlib's face network.
        frames: Pictures.
        landmarks: Of the original, px.
    """
    told = [torch.zeros(0, network.n_dimensions)]
    for start in range(0, len(frames), _CHIPS):
        chips = [
            network.chips(np.ascontiguousarray(frame.permute(1, 2, 0).numpy()), points[None].numpy())
            for frame, points in zip(frames[start : start + _CHIPS], landmarks[start : start + _CHIPS], strict=True)
        ]
        told.append(network(torch.cat(chips)).cpu())
    return torch.cat(told)


def _share(name: str, hits: Bool[Tensor, " n"], what: str) -> MetricValue:
    n, found = len(hits), int(hits.sum())
    return MetricValue(
        name, found / n if n else math.nan, n, "pictures", what, False, wilson_interval(found, n) if n else None
    )
