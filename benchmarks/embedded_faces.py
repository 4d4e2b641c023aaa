"""The embedded default on photos: held-out faces, and faces of the training set that it may remember."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import torch
from _bench import Table
from embedded_weights import (
    BATCH,
    FOLDER,
    Portraits,
    Record,
    Weights,
    as_records,
    cell,
    generated,
    kept,
    marked,
    portraits_file,
    values,
)
from torch import Tensor
from torch.utils.data import DataLoader, Subset

from pa_lib.contracts import Result
from pa_lib.data import FaceDataModule
from pa_lib.data.base import collate
from pa_lib.evaluation.clips import module_results
from pa_lib.evaluation.memorization import (
    QUANTILES,
    TAIL,
    NearestFaces,
    closeness,
    face_identities,
    is_no_more_frequent,
    nearest_faces,
    quantiles,
)
from pa_lib.functional import frechet_distance
from pa_lib.metrics import (
    AbstractMetric,
    DetectionRate,
    FaceComparer,
    FrechetIdentityDistance,
    IdentityDistance,
    ReidentificationRate,
)
from pa_lib.metrics.feed import feed
from pa_lib.modules import ConventionalAnonymizer, Photos
from pa_lib.pretrained import FaceIdentity

SIDE, HEAD_PX = 128, 64
OURS = "embedded"
CONVENTIONAL = {
    "blur, 1": lambda: ConventionalAnonymizer("blur", 1.0),
    "mosaic, 1": lambda: ConventionalAnonymizer("mosaic", 1.0),
}
KINDS = {
    "generated": "generated, held-out surroundings",
    "generated_training": "generated, training surroundings",
    "real": "real, held out",
}


# -- held-out photos ---------------------------------------------------------------------------------------------------


def faces(weights: Weights, n_photos: int | None, is_asked: bool) -> Record | None:
    """Detection, identity, search and likeness to real faces, beside blur and mosaic; as `pa-evaluate` has them."""
    protocols = [metric.protocol_hash() for metric in _metrics(FaceComparer())]
    what = [weights.settings, SIDE, n_photos, protocols, list(CONVENTIONAL)]
    return kept("faces", what, (lambda: _faces(weights, n_photos)) if is_asked else None)


def _metrics(compare: FaceComparer) -> list[AbstractMetric]:
    """What ``pa-evaluate metrics=[faces,frechet_identity]`` measures."""
    return [
        IdentityDistance(compare),
        ReidentificationRate(compare),
        DetectionRate(compare),
        FrechetIdentityDistance(compare),
    ]


def _faces(weights: Weights, n_photos: int | None) -> Record:
    data = FaceDataModule(portraits_file(), side=SIDE)
    n = min(n_photos or len(data.val_set), len(data.val_set))
    record: Record = {"n": n, "rows": {}}
    systems = {OURS: lambda: weights.system} | CONVENTIONAL
    for row, make in systems.items():
        batches = DataLoader(Subset(data.val_set, range(n)), batch_size=BATCH, collate_fn=collate)
        compare = FaceComparer()
        record["rows"][row] = measured_faces(module_results(make(), batches, kind="face"), compare)
        print(f"faces: {row} done", flush=True)
    record["rows"]["other real people"] = {"frechet_identity_distance": _between_real_people(n)}
    return record


def measured_faces(results: Iterable[Result], compare: FaceComparer) -> Record:
    """What ``pa-evaluate metrics=[faces,frechet_identity]`` measures, and as ``own_…`` a search for the very photo."""
    metrics, own = _metrics(compare), ReidentificationRate(compare)
    for result in results:
        feed(metrics, result)
        feed([own], replace(result, identities=None))
    record = as_records([figure for metric in metrics for figure in metric.measure().values])
    return record | {f"own_{name}": figure for name, figure in as_records(own.measure().values).items()}


def _between_real_people(n: int) -> Record:
    """The Frechet distance of as many people of the training side from those held out: what the few photos cost."""
    portraits, network = Portraits.of(SIDE), FaceIdentity()
    real, others = (
        face_identities(network, portraits.photos.frames[rows], portraits.photos.landmarks[rows])
        for rows in (portraits.held_out(n), portraits.training(n))
    )
    value = float(frechet_distance(real, others))
    return {"name": "frechet_identity_distance", "value": value, "interval": None, "n": n}


def faces_table(record: Record) -> tuple[Table, dict[str, bool]]:
    """The table, and which goals are met."""
    columns = {
        "still a face, %": ("detection_rate", 100.0),
        "identity distance": ("identity_distance", 1.0),
        "recognized, %": ("identity_faces_recognized", 100.0),
        "own photo found first, %": ("own_reidentification_rank1", 100.0),
        "another photo found first, %": ("reidentification_rank1", 100.0),
        "Fréchet distance": ("frechet_identity_distance", 1.0),
    }
    rows = [
        (row, *(cell(of[name], scale) if name in of else None for name, scale in columns.values()))
        for row, of in record["rows"].items()
    ]
    ours = record["rows"][OURS]
    value = values(ours)
    notes = [
        f"{record['n']} held-out photos of {SIDE} px, one seed; intervals at 95 %. Still a face: of those found in the "
        f"original. Between different people the distance is {value['identity_between_people']:.3f} on average. Own "
        "photo: each anonymized face is looked for among the originals of all, its own included; by chance "
        f"{100 * value['own_reidentification_chance_rank1']:.2f} %. Another photo: among all but its own, for the "
        f"{ours['reidentification_rank1']['n']} photos of people with two or more; by chance "
        f"{100 * value['reidentification_chance_rank1']:.2f} %, and the original itself finds it in "
        f"{100 * value['reidentification_original_rank1']:.0f} %.",
        "Fréchet distance: of dlib's 128 identity features from those of the same photos' originals. They see who it "
        "is and whether it is a face, hardly texture. Too large by the few photos, for all rows alike: the last row "
        "is what as many other real people have.",
    ]
    goals = {
        "still_a_face_in_95_percent": value["detection_rate"] >= 0.95,
        "own_photo_found_at_most_twice_chance": value["own_reidentification_rank1"]
        <= 2 * value["own_reidentification_chance_rank1"],
        "another_photo_found_at_most_twice_chance": value["reidentification_rank1"]
        <= 2 * value["reidentification_chance_rank1"],
        "identity_distance_at_least_that_between_people": value["identity_distance"]
        >= value["identity_between_people"],
        "frechet_distance_below_blur_and_mosaic": all(
            value["frechet_identity_distance"] < values(record["rows"][row])["frechet_identity_distance"]
            for row in CONVENTIONAL
        ),
    }
    return Table("Embedded default: held-out photos", ("anonymized by", *columns), rows, notes), goals


# -- memorised people --------------------------------------------------------------------------------------------------


def memorization(weights: Weights, n_heads: int, n_training: int | None, is_asked: bool) -> Record | None:
    """How near generated faces come to training faces, beside real people who were not in training."""
    compare = FaceComparer()
    what = [weights.settings, HEAD_PX, n_heads, n_training, compare.network.same_person_distance, compare.protocol()]
    measure = lambda: _memorization(weights, n_heads, n_training, marked("memorization", *what))  # noqa: E731
    return kept("memorization", what, measure if is_asked else None)


def _memorization(weights: Weights, n_heads: int, n_training: int | None, mark: str) -> Record:
    portraits, network = Portraits.of(HEAD_PX), FaceIdentity()
    photos, threshold = portraits.photos, FaceIdentity.same_person_distance
    training, held_out = portraits.training(n_training), portraits.held_out(n_training)
    known = face_identities(network, photos.frames[training], photos.landmarks[training])
    # Held-out surroundings are fewer than heads: the same photos again with other seeds.
    rounds = [held_out[: n_heads - start] for start in range(0, n_heads, len(held_out))]
    sources = {"generated": rounds, "generated_training": [portraits.training(n_heads)]}
    pictures = {
        kind: [generated(weights, portraits, rows, seed) for seed, rows in enumerate(of)]
        for kind, of in sources.items()
    }
    frames = {kind: torch.cat(of) for kind, of in pictures.items()} | {"real": photos.frames[held_out]}
    rows = {kind: torch.cat(of) for kind, of in sources.items()} | {"real": held_out}
    told: dict[str, NearestFaces] = {}
    for kind, made in frames.items():
        identities = face_identities(network, made, photos.landmarks[rows[kind]])
        own = photos.people[rows[kind]][:, None] == photos.people[training] if kind == "real" else None
        if kind == "real":
            pairs = torch.cdist(identities.double(), known.double()).flatten()
        told[kind] = nearest_faces(identities, known, threshold, own)
    tail = quantiles(told["real"], (TAIL,))[TAIL]
    record: Record = {"n_training": len(training), "threshold": threshold, "tail": tail, "values": {}}
    record["quantiles"] = {kind: quantiles(of) for kind, of in told.items()}
    record["unrelated"] = torch.quantile(pairs, torch.tensor(QUANTILES, dtype=torch.float64)).tolist()
    for kind, of in told.items():
        record["values"] |= as_records(closeness(kind, of, threshold, tail))
        if kind != "real":
            record["values"][f"detected_{kind}"] = _detected(photos, rows[kind], frames[kind])
    figures = {kind: closeness(kind, of, threshold, tail) for kind, of in told.items()}
    record["verdict"] = {
        kind: {
            figure.name.removesuffix(f"_{kind}"): is_no_more_frequent(figure, real)
            for figure, real in zip(figures[kind], figures["real"], strict=True)
            if not figure.is_higher_better
        }
        for kind in sources
    }
    of = told["generated_training"]
    nearest_people = photos.people[training[of.face]]
    record["own_person_nearest"] = float((nearest_people == photos.people[rows["generated_training"]]).double().mean())
    record["pictures"] = [str(_histogram(told, threshold, mark).relative_to(FOLDER))]
    for kind in sources:
        place = FOLDER / f"closest_{kind}_{mark}.png"
        cv2.imwrite(str(place), _sheet(photos, frames[kind], rows[kind], training, told[kind]))
        record["pictures"].append(place.name)
    return record


def _detected(photos: Photos, rows: Tensor, made: Tensor) -> Record:
    """The share in which the finder sees a face where there was one."""
    metric = DetectionRate(FaceComparer())
    for at in torch.arange(len(rows)).split(64):
        metric.update(photos.frames[rows[at]][:, None], made[at][:, None], masks=photos.masks[rows[at]][:, None])
    return as_records(metric.measure().values)["detection_rate"]  # type: ignore[no-any-return]


def _histogram(told: dict[str, NearestFaces], threshold: float, mark: str) -> Any:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 3.4))
    for kind, of in told.items():
        axes.hist(of.distance.numpy(), np.linspace(0, 1, 51).tolist(), density=True, histtype="step", label=KINDS[kind])
    axes.axvline(threshold, color="grey", linestyle=":", label="same person")
    axes.set(xlabel=f"distance to the nearest of {told['real'].n_faces} training faces", ylabel="density", xlim=(0, 1))
    axes.legend(frameon=False, fontsize=8)
    place = FOLDER / f"nearest_{mark}.png"
    figure.savefig(place, dpi=120, bbox_inches="tight")
    pyplot.close(figure)
    return place


def _sheet(photos: Photos, made: Tensor, rows: Tensor, training: Tensor, nearest: NearestFaces) -> Any:
    """The 8 closest: generated above, then its nearest training face, then the photo whose surroundings it has."""
    closest = nearest.distance.argsort()[:8]
    columns = [
        torch.cat([made[at], photos.frames[training[nearest.face[at]]], photos.frames[rows[at]]], 1) for at in closest
    ]
    sheet = torch.cat(columns, 2).permute(1, 2, 0).flip(-1).contiguous().numpy()
    return cv2.resize(sheet, None, fx=2, fy=2, interpolation=cv2.INTER_CUBIC)


def memorization_table(record: Record) -> tuple[Table, dict[str, bool]]:
    """The table, and which goals are met."""
    figures = record["values"]
    shown = [str(share) for share in QUANTILES]  # JSON's keys are words
    rows = []
    for kind, name in KINDS.items():
        of = record["quantiles"][kind]
        rows.append(
            (
                name,
                figures[f"memorized_{kind}"]["n"],
                *(of[share] for share in shown),
                cell(figures[f"memorized_{kind}"], 100),
                cell(figures[f"near_pairs_{kind}"], 100),
                cell(figures[f"tail_{kind}"], 100),
                cell(figures[f"detected_{kind}"], 100) if f"detected_{kind}" in figures else None,
            )
        )
    columns = (
        "faces",
        "n",
        *("nearest" if share == 0 else f"{100 * share:g} %" for share in QUANTILES),
        f"nearest within {record['threshold']:g}, %",
        f"pairs within {record['threshold']:g}, %",
        f"nearest within {record['tail']:.3f}, %",
        "seen as a face, %",
    )
    notes = [
        f"Distance of each face to the nearest of the same {record['n_training']} training faces, in the eyes of "
        f"dlib's network, all pictures {HEAD_PX} px, set upright by the original's landmarks; quantiles. Real: people "
        "who were not in training; what they have is what unrelated people have. Among so many faces almost "
        "everyone has one within the threshold, so three shares are given: of faces whose nearest is within it, of "
        "all pairs within it, and of faces nearer to the nearest than the nearest 5 % of real ones, where a memorised "
        "face would show. Intervals at 95 %: Wilson, and Student's t over pictures for pairs. Heads on the same photo "
        "with other seeds are taken for independent.",
        "Any two unrelated real people, one held out and one of the training set: quantiles "
        + ", ".join(
            f"{value:.3f} ({100 * share:g} %)" for share, value in zip(QUANTILES, record["unrelated"], strict=True)
        )
        + ".",
        "Training surroundings: the nearest face is of the very person whose surroundings were given in "
        f"{100 * record['own_person_nearest']:.1f} %.",
        "Goal: each share at most the upper end of the real people's interval. Pictures: "
        + ", ".join(record["pictures"])
        + " (distributions; the 8 closest, above their nearest training face, above the photo with the surroundings).",
    ]
    goals = {
        f"memorization_{share}_not_more_frequent_{kind}": is_met
        for kind, of in record["verdict"].items()
        for share, is_met in of.items()
    }
    return Table("Embedded default: memorised people", columns, rows, notes), goals
