from __future__ import annotations

from typing import Any

import lightning
import pytest
import torch
from torch import nn

from _attacks import Same, Static, photos
from pa_lib.errors import PaLibError
from pa_lib.evaluation.attack import run_attack
from pa_lib.modules import Anonymized, ParrotAttack, Photos, ReversalAttack
from pa_lib.modules.attackers.restoration_unet import RestorationUNet
from pa_lib.pretrained import FaceIdentity

ATTACKS: list[tuple[type[Any], dict[str, Any]]] = [
    (ParrotAttack, {"max_epochs": 1, "batch_size": 8}),
    (ReversalAttack, {"max_epochs": 1, "batch_size": 8}),
]


@pytest.fixture(scope="module")
def identity() -> FaceIdentity:
    return FaceIdentity()


def _plain(made: Photos, attack: Any) -> Anonymized:
    """Every photo that is wanted, as it is."""
    wanted = attack.views(made, 1).nonzero()[:, 0]
    return Anonymized(made, made.frames[wanted], wanted)


@pytest.mark.parametrize(("make", "settings"), ATTACKS)
class TestEveryAttack:
    def test_gradient_reaches_what_learns_and_nothing_else(
        self, make: type[Any], settings: dict[str, Any], identity: FaceIdentity
    ) -> None:
        attack = make(identity, **settings)
        attack.prepare(_plain(photos(6), attack))
        if isinstance(attack, ReversalAttack):
            nn.init.normal_(attack.restorer.out.weight, std=0.01)  # zero at first, and nothing passes behind it
        trainer = lightning.Trainer(max_epochs=1, logger=False, enable_checkpointing=False)
        trainer.strategy.connect(attack)
        attack.trainer = trainer
        (rows,) = next(iter(attack.train_dataloader()))
        attack.training_step([rows], 0).backward()
        learning = [name for name, weight in attack.named_parameters() if weight.requires_grad]
        assert learning
        assert all(name.split(".")[0] in ("reader", "restorer") for name in learning)
        for name, weight in attack.named_parameters():
            assert (weight.grad is not None and bool(weight.grad.abs().sum() > 0)) == weight.requires_grad, name

    def test_protocol_is_plain_and_follows_the_settings(
        self, make: type[Any], settings: dict[str, Any], identity: FaceIdentity
    ) -> None:
        told = make(identity, **settings).protocol()
        assert all(isinstance(value, str | int | float) for value in told.values())
        assert told != make(identity, **(settings | {"seed": 1})).protocol()

    def test_needs_photos_first(self, make: type[Any], settings: dict[str, Any], identity: FaceIdentity) -> None:
        with pytest.raises(PaLibError, match="call prepare first"):
            make(identity, **settings).results()

    def test_refuses_settings(self, make: type[Any], settings: dict[str, Any], identity: FaceIdentity) -> None:
        for wrong in ({"lr": 0.0}, {"batch_size": 1}, {"max_epochs": -1}):
            with pytest.raises(PaLibError, match="expected at least 0"):
                make(identity, **(settings | wrong))


class TestParrotAttack:
    @pytest.mark.wrong_types
    def test_refuses_another_view(self, identity: FaceIdentity) -> None:
        with pytest.raises(PaLibError, match="expected inside or surroundings"):
            ParrotAttack(identity, region="all")  # type: ignore[arg-type]

    def test_finds_a_perfect_leak(self, identity: FaceIdentity) -> None:
        attack = ParrotAttack(identity, max_epochs=0)
        first = run_attack(attack, Same(), photos(10, likeness=0.95)).values[0]
        assert first.name == "parrot_rank1"
        assert (first.value, first.n) == (1.0, 8)
        assert first.interval == pytest.approx((0.675592, 1.0), abs=1e-5)  # 1 / (1 + 1.959964^2 / 8)

    def test_of_noise_names_nobody(self, identity: FaceIdentity) -> None:
        attack = ParrotAttack(identity, max_epochs=1, batch_size=16)
        system = Static()
        rank1, rank5, others, chance = run_attack(attack, system, photos(24, likeness=0.5)).values
        assert rank1.interval is not None
        assert rank1.interval[0] <= chance.value <= rank1.interval[1]
        assert rank5.interval is not None
        assert rank5.interval[0] <= 5 * chance.value <= rank5.interval[1]
        assert chance.value == pytest.approx(1 / 19)
        assert chance.interval is None
        assert others.n == 19
        asked = system.seeds[5:]  # the first ask whether the seed matters, and whether photos may go together
        assert len(set(asked)) == len(asked) == 24 * 2 + 24  # known photos twice, all with seeds of their own

    def test_same_seed_same_figures(self, identity: FaceIdentity) -> None:
        one, same = (
            run_attack(ParrotAttack(identity, max_epochs=1, batch_size=8), Same(), photos(6, likeness=0.3))
            for _ in range(2)
        )
        assert one == same

    def test_counts_near_duplicates(self, identity: FaceIdentity) -> None:
        figures = run_attack(ParrotAttack(identity, max_epochs=0), Same(), photos(5, likeness=1.0)).values
        assert figures[0].counted == {"near-duplicate photos": 4}
        assert figures[2].n == 0
        assert figures[2].value != figures[2].value


class TestReversalAttack:
    def test_restores_what_is_there(self, identity: FaceIdentity) -> None:
        attack = ReversalAttack(identity, max_epochs=0)
        figures = {figure.name: figure for figure in run_attack(attack, Same(), photos(8, 2, likeness=0.9)).values}
        assert set(figures) == {
            *(f"reversal{of}{what}" for of in ("", "_unrestored") for what in ("_same_person", "_rank1", "_distance")),
            *(f"reversal{of}_rank1_other_photos" for of in ("", "_unrestored")),
            "reversal_chance",
        }
        assert figures["reversal_unrestored_rank1"].value > 0.5
        assert figures["reversal_chance"].value == pytest.approx(1 / 4)

    def test_pictures_show_originals_above(self, identity: FaceIdentity) -> None:
        attack = ReversalAttack(identity, max_epochs=0)
        made = photos(4, 2)
        attack.prepare(_plain(made, attack))
        assert attack.pictures(2).shape == (3, 3 * 80, 2 * 80)
        assert torch.equal(attack.pictures(2)[:, :80, :80], attack._originals[attack._split_or_raise().tested[0]])

    def test_says_when_the_gallery_is_the_same_photo(self, identity: FaceIdentity) -> None:
        figures = run_attack(ReversalAttack(identity, max_epochs=0), Same(), photos(0, n_others=8)).values
        assert figures[0].counted == {"people whose tested photo is the gallery's": 4}
        assert "the same photo" in figures[0].what

    def test_learning_makes_the_loss_smaller(self, identity: FaceIdentity) -> None:
        torch.manual_seed(0)
        made = photos(0, n_others=24, likeness=1.0)
        attack = ReversalAttack(identity, max_epochs=25, batch_size=8, identity_weight=0.0, lr=3e-3)
        losses: list[float] = []
        step = attack.training_step

        def kept(batch: Any, batch_idx: int) -> Any:
            loss = step(batch, batch_idx)
            losses.append(float(loss.detach()))
            return loss

        attack.training_step = kept  # type: ignore[method-assign]
        run_attack(attack, Same(), made)  # there is all to see: the guess of so few pairs is bad, and mended
        assert len(losses) == 25  # one step an epoch
        assert sum(losses[-3:]) < 0.8 * sum(losses[:3])


class TestRestorationUNet:
    def test_begins_with_the_guess(self) -> None:
        guess = torch.rand(2, 3, 32, 32)
        assert torch.equal(RestorationUNet(4)(torch.rand(2, 4, 32, 32), guess), guess)
