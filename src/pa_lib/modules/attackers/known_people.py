"""Splits of photos: known to the attacker, for tuning, and for the test; and how good guesses are."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64, Num
from torch import Tensor

from pa_lib.errors import InputError
from pa_lib.functional.draws import uniform


@dataclass(frozen=True, eq=False)
class KnownPeople:
    """Photos by their use; no photo is in two of them.

    Args:
        known: Rows of the photos to learn from: of all people, at least one of each who is tested.
        tuning: Rows of one further photo of some people who are not tested: weights are chosen on these.
        tested: Rows of one further photo of each of the other people with two photos or more.
        tuned_people, tested_people: People in `tuning` and in `tested`, in their order.
    """

    known: Int64[Tensor, " k"]
    tuning: Int64[Tensor, " v"]
    tested: Int64[Tensor, " q"]
    tuned_people: Int64[Tensor, " v"]
    tested_people: Int64[Tensor, " q"]


def divide_photos(people: Int64[Tensor, " n"], tuning_share: float, seed: int) -> KnownPeople:
    """Hold one photo back of each person who has two or more: at random, and by photo, not by person.

    Args:
        people: Number of the person of each photo.
        tuning_share: Share of the people with two photos or more whose photo serves for tuning and not for the test, in
            (0, 1).
        seed: Seed of the split.

    Raises:
        InputError: Fewer than three people with two photos: one to tune on and two to distinguish.
    """
    photos: dict[int, list[int]] = {}
    for photo, person in enumerate(people.tolist()):
        photos.setdefault(person, []).append(photo)
    several = sorted(person for person, theirs in photos.items() if len(theirs) > 1)
    if len(several) < 3:
        raise InputError(
            f"{len(several)} of {len(photos)} people have two photos or more: expected at least 3, since one photo "
            "of a person is learned from and another one is attacked; give the data a column `group`"
        )
    order = uniform((len(several),), seed, 0).argsort().tolist()
    shuffled = [several[at] for at in order]
    n_tuned = min(max(1, round(tuning_share * len(several))), len(several) - 2)
    draws = uniform((len(several),), seed, 1).tolist()
    held = {
        person: photos[person][int(draw * len(photos[person]))] for person, draw in zip(several, draws, strict=True)
    }
    tuned, tested = sorted(shuffled[:n_tuned]), sorted(shuffled[n_tuned:])
    out = set(held.values())
    return KnownPeople(
        torch.tensor([photo for photo in range(len(people)) if photo not in out]),
        torch.tensor([held[person] for person in tuned]),
        torch.tensor([held[person] for person in tested]),
        torch.tensor(tuned),
        torch.tensor(tested),
    )


@dataclass(frozen=True, eq=False)
class Strangers:
    """Photos of an attacker who is tested on people not seen in training.

    Args:
        learned: Rows of the photos to learn from, person by person in random order; none of a person who is tested.
        tested: Row of one photo of each person who is tested.
        gallery: Row of the photo by which each of them is known: another one, or the same if no person has two.
        is_same_photo: Whether both are the same photo.
    """

    learned: Int64[Tensor, " k"]
    tested: Int64[Tensor, " q"]
    gallery: Int64[Tensor, " q"]
    is_same_photo: bool


def divide_people(people: Int64[Tensor, " n"], tested_share: float, seed: int) -> Strangers:
    """Hold people back for a test: those with two photos, or any if no person has two.

    Args:
        people: Number of the person of each photo.
        tested_share: Largest share of all people that is tested, in (0, 1).
        seed: Seed of the split.

    Raises:
        InputError: Fewer than four people: two to learn from and two to distinguish.
    """
    photos: dict[int, list[int]] = {}
    for photo, person in enumerate(people.tolist()):
        photos.setdefault(person, []).append(photo)
    if len(photos) < 4:
        raise InputError(f"{len(photos)} people: expected at least 4, two to learn from and two to distinguish")
    all_people = sorted(photos)
    shuffled = [all_people[at] for at in uniform((len(all_people),), seed, 5).argsort().tolist()]
    several = [person for person in shuffled if len(photos[person]) > 1]
    most = min(max(2, round(tested_share * len(all_people))), len(all_people) - 2)
    is_same_photo = len(several) < 2
    tested = sorted((shuffled if is_same_photo else several)[:most])
    pairs = [
        [theirs[at] for at in uniform((len(theirs),), seed, 6, person).argsort().tolist()]
        for person, theirs in ((person, photos[person]) for person in tested)
    ]
    out = set(tested)
    return Strangers(
        torch.tensor([photo for person in shuffled if person not in out for photo in photos[person]]),
        torch.tensor([pair[0] for pair in pairs]),
        torch.tensor([pair[0 if is_same_photo else 1] for pair in pairs]),
        is_same_photo,
    )


def hits(scores: Num[Tensor, "q k"], right: Int64[Tensor, " q"], first: int) -> Float[Tensor, " q"]:
    """Probability that the right column is among the `first` best of its row, with equal scores in random order.

    If all scores of a row are equal, the result is exactly chance, ``min(1, first / k)``.

    Args:
        scores: Score of each answer; higher = more likely.
        right: Column of the right answer.
        first: Number of highest scores that count as a hit, >= 1.

    >>> hits(torch.tensor([[0.3, 0.9, 0.1], [0.5, 0.5, 0.5]]), torch.tensor([1, 0]), 1).tolist()
    [1.0, 0.3333333333333333]
    """
    own = scores.gather(1, right[:, None])
    better, equal = (scores > own).sum(1).double(), (scores == own).sum(1).double()
    return ((first - better) / equal).clamp(0, 1)
