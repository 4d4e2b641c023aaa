"""The parrot attack: trained on anonymized photos of people, it identifies them on other anonymized photos."""

from __future__ import annotations

import copy
from typing import Any, Literal

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn import functional

from pa_lib.errors import PaLibError, SettingError
from pa_lib.functional.draws import normal, uniform
from pa_lib.modules.attackers.base import Anonymized, AttackResult, Photos
from pa_lib.modules.attackers.chips import NEAR_DUPLICATE, hidden_chips, identities, near_duplicates, original_chips
from pa_lib.modules.attackers.known_people import KnownPeople, divide_photos, hits
from pa_lib.modules.attackers.linear_restoration import LinearRestoration
from pa_lib.modules.attackers.trained import AbstractTrainedAttack
from pa_lib.pretrained import FaceIdentity

_SIDE = 75  # of the chips that are kept, px: half the network's, and what a face of 128 px photos holds
_LINEAR_SIDE = 50  # of the chips that the linear restoration reads
_SCALE = 20.0  # of cosines in the softmax
_WEIGHTS = (0.0, 0.5, 1.0, 2.0)  # of the known originals against known anonymized photos, to be chosen from


class ParrotAttack(AbstractTrainedAttack):
    r"""Identifies people on anonymized photos, having learned from *anonymized* photos of them.

    The attacker knows the anonymizer, and one photo of each person to be identified, and anonymizes these photos too.
    The test is another photo of each: which of these people does it show? The photos of all other people in the data
    serve for training as well. A linear map first undoes what it can (`LinearRestoration`), if that helps; then dlib's
    face network, all but its first stage, is trained to predict from anonymized chips the identity that the network as
    it ships finds in originals:

    .. math:: L = -\log \mathrm{softmax}_i (20 \cos(f(x), w_i)) + 4 (1 - \cos(f(x), w_i))

    with w_i the identity of the original photo, less the mean of all. People are ranked by the cosine to their known
    anonymized photo plus a weight times that to its original. Linear map or not, epoch and weight are those that do
    best on `tuning_share` of the people with two photos, who are not in the test.

    Args:
        identity: dlib's face network.
        region: Pixels that the attacker sees. ``inside``: only pixels inside the mask, in a disc that is the same for
            all people, all else grey; the attack on the anonymizer. ``surroundings``: the whole chip, also where it
            shows what was not hidden.
        max_epochs: Number of epochs, >= 0; 0 = the linear map and the network as it ships.
        batch_size: Number of photos in a step, >= 2.
        lr: Highest learning rate of AdamW, > 0; it falls to 0 as a cosine.
        tuning_share: Share of the people with two photos or more that is used for tuning, in (0, 1).
        seed: Seed of the split, order and augmentation.

    Source: McPherson, Shokri and Shmatikov 2016, "Defeating Image Obfuscation with Deep Learning".
    Ours: everything about the network; theirs was trained from the beginning, on many photos of few people.
    """

    name = "parrot"

    def __init__(
        self,
        identity: FaceIdentity,
        *,
        region: Literal["inside", "surroundings"] = "inside",
        max_epochs: int = 3,
        batch_size: int = 48,
        lr: float = 5e-5,
        tuning_share: float = 0.2,
        seed: int = 0,
    ) -> None:
        super().__init__(max_epochs=max_epochs, batch_size=batch_size, lr=lr, seed=seed)
        if region not in ("inside", "surroundings"):
            raise SettingError(f"region {region!r}: expected inside or surroundings")
        if not 0 < tuning_share < 1:
            raise SettingError(f"parrot: tuning_share {tuning_share}: expected within (0, 1)")
        self.identity = identity
        self.reader = copy.deepcopy(identity)
        self.region = region
        self.tuning_share = tuning_share
        self._split: KnownPeople | None = None

    def views(self, photos: Photos, n_views: int) -> Int64[Tensor, " n"]:
        """Every photo; those to learn from as often as is offered."""
        split = divide_photos(photos.people, self.tuning_share, self.seed)
        views = torch.full((len(photos),), n_views)
        views[torch.cat([split.tuning, split.tested])] = 1
        return views

    def prepare(self, seen: Anonymized) -> None:
        """Cut chips, fit the linear map, and start again from the network as it ships."""
        photos = seen.photos
        self._split = split = divide_photos(photos.people, self.tuning_share, self.seed)
        self.reader = _trainable(copy.deepcopy(self.identity))
        is_masked = self.region == "inside"
        self._rows = {
            "known": seen.rows(split.known),
            "tuning": seen.rows(split.tuning, is_first=True),
            "tested": seen.rows(split.tested, is_first=True),
        }
        self._photo = seen.photo
        self._people = photos.people
        raw = hidden_chips(seen, torch.arange(len(seen.photo)), _SIDE, is_masked=is_masked)
        originals = original_chips(seen, torch.arange(len(photos)), _SIDE)
        faces = identities(self.identity, originals)
        self._middle = faces[split.known].mean(0)
        self._known_originals = functional.normalize(faces - self._middle)
        theirs = [split.known[photos.people[split.known] == person] for person in split.tested_people]
        self._near_duplicates = near_duplicates(originals, split.tested, theirs)
        restored = _restored(seen, raw, originals, split, self._rows["known"])
        self._inputs = {"seen": raw, "restored": restored}
        self.start_over()
        for source in self._inputs:
            self._source = source
            self.keep_if_better()
        self._source = self.best.choices["source"]

    @property
    def learner(self) -> nn.Module:
        """The face network that reads anonymized chips."""
        return self.reader

    @property
    def learned_rows(self) -> Int64[Tensor, " k"]:
        """Anonymized pictures of known photos."""
        return self._rows["known"]

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        """Predict the identity of the original from the anonymized chip."""
        (rows,) = batch
        chips = _augmented(self._inputs[self._source][rows.cpu()].float() / 255, self.seed, self.global_step)
        faces = functional.normalize(self._read(chips.to(self.device)) - self._middle.to(self.device))
        of = self._photo[rows.cpu()]
        known = self._split_or_raise().known
        targets = self._known_originals.to(self.device)
        near = faces @ targets[known.to(self.device)].T
        place = torch.searchsorted(known, of).to(self.device)
        alike = (faces * targets[of.to(self.device)]).sum(1)
        return functional.cross_entropy(_SCALE * near, place) + 4 * (1 - alike).mean()

    def results(self) -> tuple[AttackResult, ...]:
        """Rank-1 and rank-5 on the held-out photos of the people who are tested."""
        split = self._split_or_raise()
        self._source = self.best.choices["source"]
        self.restore_best()
        scores = self._scores("tested", split.tested_people, self.best.choices["weight"])
        right = torch.arange(len(split.tested))
        n = len(right)
        apart = ~self._near_duplicates
        counted = {"near-duplicate photos": int((~apart).sum())}
        of = "tested people"
        first = hits(scores, right, 1)
        return (
            AttackResult("parrot_rank1", first, of, f"named first among {n} people", counted=counted),
            AttackResult(
                "parrot_rank5", hits(scores, right, 5), of, f"among the first five of {n} people", counted=counted
            ),
            AttackResult("parrot_rank1_other_photos", first[apart], of, "named first, near-duplicate photos left out"),
            AttackResult(
                "parrot_chance", torch.full((n,), 1 / n), of, "rank-1 of a guess", True, None, has_interval=False
            ),
        )

    def protocol(self) -> dict[str, Any]:
        """All that is needed to reproduce the attack."""
        return {
            "network": "dlib ResNet-29, all but its first stage trained",
            "sees": self.region,  # its name in hashes of protocols
            "chip_px": _SIDE,
            "aligned": "by the original's landmarks",
            "known_photos": "all but one of every person, beside all people with one photo",
            "tuning_share": self.tuning_share,
            "max_epochs": self.max_epochs,
            "batch_size": self.batch_size,
            "lr": self.lr,
            "linear_restoration": "ridge regression at 50 px, if it does better on the people to tune on",
            "ties": "expected rank in random order",
            "near_duplicate": f"correlation of originals at {_SIDE} px above {NEAR_DUPLICATE}",
            "seed": self.seed,
        }

    def _split_or_raise(self) -> KnownPeople:
        if self._split is None:
            raise PaLibError("the attack has no photos yet: call prepare first, or pa_lib.evaluation.run_attack")
        return self._split

    def keep_if_better(self) -> None:
        """Score every weight of the originals; rank-1 alone has ties among so few people."""
        split = self._split_or_raise()
        right = torch.arange(len(split.tuning))
        near = self._nearness("tuning", split.tuned_people)
        for weight in _WEIGHTS:
            scores = near[0] + weight * near[1]
            score = float(hits(scores, right, 1).mean() + 0.5 * hits(scores, right, 5).mean())
            self.keep(score, source=self._source, weight=weight)

    def _scores(self, which: str, people: Tensor, weight: float) -> Tensor:
        anonymized, originals = self._nearness(which, people)
        return anonymized + weight * originals

    def _nearness(self, which: str, people: Int64[Tensor, " k"]) -> tuple[Tensor, Tensor]:
        """Cosines of held-out pictures to what is known of these people: anonymized photos, and originals."""
        known = self._rows["known"]
        of = self._people[self._photo[known]]
        mine = torch.isin(of, people)
        places = torch.searchsorted(people, of[mine])
        faces = self._embed(self._rows[which])
        anonymized = _summed(self._embed(known[mine]), places, len(people))
        originals = _summed(self._known_originals[self._photo[known[mine]]], places, len(people))
        return faces @ anonymized.T, faces @ originals.T

    def _embed(self, rows: Tensor) -> Float[Tensor, "k 128"]:
        chips = self._inputs[self._source][rows]
        both = identities(self.reader, chips) + identities(self.reader, chips.flip(-1))
        return functional.normalize(both / 2 - self._middle)

    def _read(self, chips: Tensor) -> Tensor:
        with torch.autocast(chips.device.type, torch.bfloat16):
            faces: Tensor = self.reader(chips.contiguous(memory_format=torch.channels_last))
        return faces.float()


def _trainable(network: FaceIdentity) -> FaceIdentity:
    """All but the first stage, whose cost is a third of the network's and which sees edges and colours only."""
    network.requires_grad_(True)
    network.stem.requires_grad_(False)
    for name, block in network.blocks.items():
        if name.startswith("conv32_"):
            block.requires_grad_(False)
    return network.to(memory_format=torch.channels_last)


def _restored(seen: Anonymized, raw: Tensor, originals: Tensor, split: KnownPeople, known_rows: Tensor) -> Tensor:
    """Chips restored by a map that was learned from the known photos without the photo itself."""
    small = functional.interpolate(raw.float() / 255, size=(_LINEAR_SIDE, _LINEAR_SIDE), mode="area").flatten(1)
    first = seen.rows(split.known, is_first=True)
    linear = LinearRestoration(small[first], originals[split.known].float().flatten(1) / 255)
    place = torch.full((len(seen.photos),), -1)
    place[split.known] = torch.arange(len(split.known))
    parts = [
        (linear.restored(small[rows], place[seen.photo[rows]]).clamp(0, 1) * 255).round().byte()
        for rows in torch.split(torch.arange(len(small)), 256)
    ]
    return torch.cat(parts).view_as(raw)


def _augmented(chips: Tensor, seed: int, step: int) -> Tensor:
    """Chips at the network's size: half of them mirrored; turned by some 3 degrees, scaled by 5 %, shifted."""
    n = len(chips)
    turn, size, x, y, gain, shift = normal((6, n), seed, 3, step)
    size = (0.05 * size).exp()
    mirror = torch.where(uniform((n,), seed, 4, step) < 0.5, -1.0, 1.0)
    cosine, sine = size * (0.05 * turn).cos(), size * (0.05 * turn).sin()
    across = torch.stack([mirror * cosine, -sine, 0.04 * x])
    down = torch.stack([mirror * sine, cosine, 0.04 * y])
    to = torch.stack([across, down]).permute(2, 0, 1)
    grid = functional.affine_grid(to, [n, 3, 150, 150], align_corners=False)
    moved = functional.grid_sample(chips, grid, padding_mode="border", align_corners=False)
    lit: Tensor = (moved - 0.5) * (0.1 * gain).exp()[:, None, None, None] + 0.5 + 0.03 * shift[:, None, None, None]
    return lit


def _summed(faces: Tensor, places: Tensor, n: int) -> Tensor:
    return functional.normalize(faces.new_zeros(n, faces.shape[1]).index_add_(0, places, faces))
