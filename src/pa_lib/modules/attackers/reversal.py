"""The reversal attack: a network that restores the original from the anonymized face."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor, nn
from torch.nn import functional

from pa_lib.errors import PaLibError, SettingError
from pa_lib.functional.draws import uniform
from pa_lib.modules.attackers.base import Anonymized, AttackResult, Photos
from pa_lib.modules.attackers.chips import hidden_chips, hidden_part, identities, near_duplicates, original_chips
from pa_lib.modules.attackers.known_people import Strangers, divide_people, hits
from pa_lib.modules.attackers.linear_restoration import LinearRestoration
from pa_lib.modules.attackers.restoration_unet import RestorationUNet
from pa_lib.modules.attackers.trained import AbstractTrainedAttack
from pa_lib.pretrained import FaceIdentity

_SIDE = 80  # of chips, px; a multiple of 16
_LINEAR_SIDE = 40  # of the chips that the linear restoration reads
_TUNING_SHARE = 0.1
_CHUNK = 64
_N_OWN = 400


class ReversalAttack(AbstractTrainedAttack):
    r"""Restores faces from what the anonymizer leaves under the mask, having learned on other people.

    The attacker knows the anonymizer and runs it on other faces. A linear map makes a first guess
    (`LinearRestoration`), and a U-Net corrects it:

    .. math:: L = |r - o|_1 + w \, \| e(r) - e(o) \|_2

    with r the restored chip, o the original and e the face network. People who are tested are not learned from. The
    same values are reported for the anonymized chip as it is, which shows what the attack adds. Faces are ranked by
    the cosine of identities, those of restored faces less their mean over other people, those of the
    gallery less that of originals: restored faces are all drawn to the mean, and distances would rank the gallery by
    how near the mean it is.

    Args:
        identity: dlib's face network, frozen. It is part of the loss and also measures the result, which favours the
            attacker.
        max_epochs: Number of epochs, >= 0; 0 = the linear map alone.
        batch_size: Number of photos in a step, >= 2.
        lr: Highest learning rate of AdamW, > 0; it falls to 0 as a cosine.
        identity_weight: w, the weight of distances between identities relative to differences of pixels in [0, 1].
        tested_share: Largest share of all people that is tested, in (0, 1).
        seed: Seed of the split, weights, order and mirroring.

    Source: Todt, Hanisch and Strufe 2022, "Fantomas" (arXiv 2210.10651), for the question. Ours: networks and losses.
    """

    name = "reversal"

    def __init__(
        self,
        identity: FaceIdentity,
        *,
        max_epochs: int = 3,
        batch_size: int = 32,
        lr: float = 1e-3,
        identity_weight: float = 0.2,
        tested_share: float = 0.5,
        seed: int = 0,
    ) -> None:
        super().__init__(max_epochs=max_epochs, batch_size=batch_size, lr=lr, seed=seed)
        if not (identity_weight >= 0 and 0 < tested_share < 1):
            raise SettingError(
                f"reversal: identity_weight {identity_weight}, tested_share {tested_share}: expected at least 0, and "
                "within (0, 1)"
            )
        self.identity = identity
        self.restorer = RestorationUNet(4)
        self.identity_weight = identity_weight
        self.tested_share = tested_share
        self._split: Strangers | None = None

    def views(self, photos: Photos, n_views: int) -> Int64[Tensor, " n"]:
        """Photos to learn from as often as is offered, tested ones once, those of the gallery never."""
        split = divide_people(photos.people, self.tested_share, self.seed)
        views = torch.zeros(len(photos), dtype=torch.int64)
        views[split.learned] = n_views
        views[split.tested] = 1
        return views

    def prepare(self, seen: Anonymized) -> None:
        """Cut chips, fit the linear map, and start with new weights."""
        self._split = split = divide_people(seen.photos.people, self.tested_share, self.seed)
        with torch.random.fork_rng():
            torch.manual_seed(self.seed)
            self.restorer = RestorationUNet(4).to(memory_format=torch.channels_last)
        # Learned photos lie person by person in random order: the last people are only looked at to tune on.
        n_tuning = max(1, round(_TUNING_SHARE * len(split.learned)))
        tuned = torch.isin(seen.photos.people[split.learned], seen.photos.people[split.learned[-n_tuning:]])
        learned = split.learned[~tuned]
        self._rows = {
            "learned": seen.rows(learned),
            "tuning": seen.rows(split.learned[tuned], is_first=True),
            "tested": seen.rows(split.tested, is_first=True),
        }
        # What all restored faces have in common is estimated on people who are not tested.
        self._own = torch.cat([self._rows["tuning"], self._rows["learned"]])[:_N_OWN]
        every = torch.arange(len(seen.photo))
        self._photo = seen.photo
        self._seen = hidden_chips(seen, every, _SIDE)
        self._inside = hidden_part(seen, every, _SIDE)
        self._originals = original_chips(seen, torch.arange(len(seen.photos)), _SIDE)
        self._guess = self._guessed(seen, learned)
        self._identities = identities(self.identity, self._originals)
        self._near_duplicates = near_duplicates(self._originals, split.tested, list(split.gallery[:, None]))
        self.start_over()
        self.keep_if_better()

    @property
    def learner(self) -> nn.Module:
        """The network that corrects the linear guess."""
        return self.restorer

    @property
    def learned_rows(self) -> Int64[Tensor, " k"]:
        """Anonymized pictures of people who are not tested."""
        return self._rows["learned"]

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        """Pixels and identity of the original."""
        rows = batch[0].cpu()
        originals = self._originals[self._photo[rows]].float() / 255
        parts = [*self._inputs(rows), originals]
        mirrored = uniform((len(rows), 1, 1, 1), self.seed, 3, self.global_step) < 0.5
        seen, guess, originals = (torch.where(mirrored, part.flip(-1), part).to(self.device) for part in parts)
        restored = self._restore(seen, guess)
        # The network as it ships hardly distinguishes a mirrored face.
        away = self._identity(restored) - self._identities[self._photo[rows]].to(self.device)
        pixels = (restored - originals).abs().mean()
        loss: Tensor = pixels + self.identity_weight * away.norm(dim=1).mean()
        return loss

    def results(self) -> tuple[AttackResult, ...]:
        """How near restored faces are to the truth, beside anonymized ones."""
        split = self._split_or_raise()
        self.restore_best()
        rows = self._rows["tested"]
        truth, gallery = self._identities[split.tested], self._identities[split.gallery]
        other = "the same photo" if split.is_same_photo else "another photo"
        counted = {"near-duplicate photos": int(self._near_duplicates.sum())}
        if split.is_same_photo:
            counted = {"people whose tested photo is the gallery's": len(rows)}
        limit, n, right = self.identity.same_person_distance, len(rows), torch.arange(len(rows))
        gallery = functional.normalize(gallery - self._identities[self._photo[self._own]].mean(0))
        made: list[AttackResult] = []
        for name, whose in (("reversal", "restored"), ("reversal_unrestored", "anonymized")):
            faces, middle = self._faces(rows, whose), self._faces(self._own, whose).mean(0)
            away = (faces - truth).norm(dim=1)
            first = hits(functional.normalize(faces - middle).double() @ gallery.double().T, right, 1)
            ranked = f"{whose} face, most like the right one in a gallery of {other} of {n} people"
            made += [
                AttackResult(f"{name}_rank1", first, "faces", ranked, counted=counted),
                AttackResult(
                    f"{name}_same_person", (away < limit).double(), "faces", f"{whose} within {limit} of the truth"
                ),
                AttackResult(
                    f"{name}_distance", away, "faces", f"identity distance of {whose} to the truth", False, True
                ),
            ]
            if not split.is_same_photo:
                apart = first[~self._near_duplicates]
                made.append(
                    AttackResult(f"{name}_rank1_other_photos", apart, "faces", "near-duplicate photos left out")
                )
        chance = torch.full((n,), 1 / n)
        return (
            *made,
            AttackResult("reversal_chance", chance, "faces", "rank-1 of a guess", True, None, has_interval=False),
        )

    def _faces(self, rows: Tensor, whose: str) -> Float[Tensor, "k 128"]:
        """Identities of restored faces, or of anonymized ones as they are."""
        chips = (self._restored(rows) * 255).round().byte() if whose == "restored" else self._seen[rows]
        return identities(self.identity, chips)

    def pictures(self, n: int = 8) -> UInt8[Tensor, "3 h w"]:
        """A sheet of tested faces: a row of originals, of what the attacker sees, and of what is restored from it."""
        split = self._split_or_raise()
        rows = self._rows["tested"][:n]
        restored = (self._restored(rows) * 255).round().byte()
        sheet = torch.stack([self._originals[split.tested[:n]], self._seen[rows], restored])
        return sheet.permute(2, 0, 3, 1, 4).reshape(3, 3 * _SIDE, len(rows) * _SIDE)

    def protocol(self) -> dict[str, Any]:
        """All that is needed to reproduce the attack."""
        return {
            "network": "U-Net at 40 px and below, 24 to 144 channels, on a ridge regression from 40 px",
            "judge": "dlib ResNet-29, Euclidean",
            "same_person_distance": self.identity.same_person_distance,
            "chip_px": _SIDE,
            "aligned": "by the original's landmarks; only the inside of the mask in a disc is seen",
            "people": "disjoint; all people with two photos are tested, at most tested_share of all",
            "tested_share": self.tested_share,
            "max_epochs": self.max_epochs,
            "batch_size": self.batch_size,
            "lr": self.lr,
            "identity_weight": self.identity_weight,
            "rank": f"cosine of identities less the means of {_N_OWN} people not tested",
            "ties": "expected rank in random order",
            "seed": self.seed,
        }

    def _split_or_raise(self) -> Strangers:
        if self._split is None:
            raise PaLibError("the attack has no photos yet: call prepare first, or pa_lib.evaluation.run_attack")
        return self._split

    def keep_if_better(self) -> None:
        """Score how near identities are to the truth, on people who are not learned from."""
        rows = self._rows["tuning"]
        faces = identities(self.identity, (self._restored(rows) * 255).round().byte())
        self.keep(-float((faces - self._identities[self._photo[rows]]).norm(dim=1).mean()))

    def _guessed(self, seen: Anonymized, learned: Tensor) -> UInt8[Tensor, "m 3 s s"]:
        """A first guess by a linear map, for learned photos by one that was made without them."""
        small = functional.interpolate(self._seen.float() / 255, size=(_LINEAR_SIDE, _LINEAR_SIDE), mode="area")
        first = seen.rows(learned, is_first=True)
        linear = LinearRestoration(small[first].flatten(1), self._originals[learned].float().flatten(1) / 255)
        place = torch.full((len(seen.photos),), -1)
        place[learned] = torch.arange(len(learned))
        parts = [
            (linear.restored(small[rows].flatten(1), place[self._photo[rows]]).clamp(0, 1) * 255).round().byte()
            for rows in torch.split(torch.arange(len(small)), 256)
        ]
        return torch.cat(parts).view_as(self._seen)

    def _inputs(self, rows: Tensor) -> tuple[Float[Tensor, "k 4 s s"], Float[Tensor, "k 3 s s"]]:
        """What is seen, with where that is, and the first guess."""
        seen = torch.cat([self._seen[rows].float() / 255, self._inside[rows].float()], 1)
        return seen, self._guess[rows].float() / 255

    def _restore(self, seen: Tensor, guess: Tensor) -> Float[Tensor, "k 3 s s"]:
        with torch.autocast(seen.device.type, torch.bfloat16):
            restored: Tensor = self.restorer(seen.contiguous(memory_format=torch.channels_last), guess)
        return restored.float()

    def _identity(self, chips: Tensor) -> Tensor:
        large = functional.interpolate(chips, size=(150, 150), mode="bilinear")
        with torch.autocast(chips.device.type, torch.bfloat16):
            faces: Tensor = self.identity(large.contiguous(memory_format=torch.channels_last))
        return faces.float()

    @torch.no_grad()
    def _restored(self, rows: Tensor) -> Float[Tensor, "k 3 s s"]:
        device = next(self.restorer.parameters()).device
        parts = []
        for some in torch.split(rows, _CHUNK):
            seen, guess = (part.to(device) for part in self._inputs(some))
            parts.append(self._restore(seen, guess).clamp(0, 1).cpu())
        return torch.cat(parts)
