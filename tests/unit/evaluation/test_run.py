"""`evaluate` from Python: sources, processes, what is refused; and the notes of a record."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import pa_lib
from _evaluation import BOX_MASKER, anonymized_pair, box_masker, evaluation
from _metrics import Brightness
from pa_lib.contracts import Result
from pa_lib.data import SyntheticDataModule
from pa_lib.errors import InputError, PaLibError, SettingError
from pa_lib.evaluation import FilePairs, Maskers, ModuleOnClips
from pa_lib.evaluation.run import notes_of, notes_on
from pa_lib.evaluation.shard import AbstractSource, MakeMetrics, OnProgress, Shard
from pa_lib.metrics import UnmaskedPSNR
from pa_lib.metrics.feed import feed
from pa_lib.modules import ConventionalAnonymizer
from pa_lib.people.tracks.record import TracksRecord

(CLIP,) = evaluation({"toy": 1.0}).clips
QUIET = replace(CLIP, n_hidden=1, masker_from="report")


def grey(level: float) -> Result:
    source = torch.full((1, 1, 3, 4, 4), level)
    return Result(source, source, torch.zeros(1, 1, 1, 4, 4), torch.tensor([0]), people=())


class Greys(AbstractSource):
    """Results of one grey level each, given to two sets of metrics."""

    def measure(self, make_metrics: MakeMetrics, rank: int, world: int, on_progress: OnProgress) -> Shard:
        shard = Shard("greys", {"composited": list(make_metrics()), "encoded": list(make_metrics())})
        for place, levels in (("composited", (0.25,)), ("encoded", (0.5, 1.0))):
            for level in levels:
                for metric in shard.metrics[place]:
                    feed([metric], grey(level))
        on_progress("greys", "measuring", 3, 3)
        return shard


class Alone(Greys):
    is_divisible = False


class Failing(Greys):
    def measure(self, make_metrics: MakeMetrics, rank: int, world: int, on_progress: OnProgress) -> Shard:
        raise InputError("clip.mp4: no such file")


class TestEvaluate:
    def test_every_place_has_metrics_of_its_own_and_the_given_ones_are_reset(self) -> None:
        metric = Brightness()
        feed([metric], grey(0.0))
        progress: list[tuple[object, ...]] = []
        made = pa_lib.evaluate(Greys(), [metric], on_progress=lambda *now: progress.append(now), config={"seed": 3})
        assert made is not None
        found = {record.measured_on: record.values[0].value for record in made.metrics}
        assert found == {"composited": pytest.approx(0.25), "encoded": pytest.approx(0.75)}
        assert (made.title, dict(made.config), progress) == ("greys", {"seed": 3}, [("greys", "measuring", 3, 3)])

    def test_functions_that_make_source_and_metrics_are_taken(self) -> None:
        made = pa_lib.evaluate(Greys, lambda: [Brightness()])
        assert made is not None
        assert [record.values[0].value for record in made.metrics] == pytest.approx([0.25, 0.75])

    def test_what_cannot_be_measured_is_refused(self) -> None:
        with pytest.raises(SettingError, match="no metrics"):
            pa_lib.evaluate(Greys())
        with pytest.raises(SettingError, match="processes=0: expected at least 1"):
            pa_lib.evaluate(Greys(), [Brightness()], processes=0)
        with pytest.raises(InputError, match=r"clip\.mp4: no such file"):
            pa_lib.evaluate(Failing(), [Brightness()])

    def test_work_that_cannot_be_pickled_is_refused_before_processes_are_started(self) -> None:
        with pytest.raises(SettingError, match=r"cannot be handed to other processes .*give functions of a module"):
            pa_lib.evaluate(Greys(), lambda: [Brightness()], processes=2)

    def test_a_source_that_works_alone_is_not_divided(self, monkeypatch: pytest.MonkeyPatch) -> None:
        from pa_lib.evaluation import run

        def two(work: object, processes: int, on_progress: OnProgress) -> object:
            monkeypatch.setattr(run, "gathered", lambda own, world: [own, own])
            return work(0, processes, on_progress)  # type: ignore[operator]

        monkeypatch.setattr(run, "in_processes", two)
        with pytest.raises(SettingError, match="Alone works in one process; set processes=1"):
            pa_lib.evaluate(Alone(), [Brightness()], processes=2)

    def test_files_with_the_masks_of_their_run(self, tmp_path: Path) -> None:
        pair = anonymized_pair(tmp_path, n_frames=4)
        made = pa_lib.evaluate(FilePairs(pair.original), [UnmaskedPSNR()])
        assert made is not None
        values = {value.name: value.value for value in made.metrics[0].values}
        assert values["unmasked_identical_share"] == 1.0  # a lossless codec
        assert (made.clips[0].masker_from, made.clips[0].masker) == ("report", BOX_MASKER)


class TestModuleOnClips:
    @pytest.mark.wrong_types
    def test_wrong_settings_are_refused(self) -> None:
        data = SyntheticDataModule(n_clips=4, side=16, n_frames=1, batch_size=2)
        system = ConventionalAnonymizer("fill")
        with pytest.raises(SettingError, match="split=train: expected val or test"):
            ModuleOnClips(system, data, split="train")  # type: ignore[arg-type]
        with pytest.raises(SettingError, match="kind=car: expected face or body"):
            ModuleOnClips(system, data, kind="car")  # type: ignore[arg-type]

    def test_data_without_a_held_out_part_is_refused(self) -> None:
        data = SyntheticDataModule(n_clips=4, side=16, n_frames=1, batch_size=2, val_share=0.0)
        for split in ("val", "test"):
            with pytest.raises(InputError, match="val"):
                pa_lib.evaluate(ModuleOnClips(ConventionalAnonymizer("fill"), data, split=split), [UnmaskedPSNR()])  # type: ignore[arg-type]

    def test_settings_of_the_data_are_recorded_without_its_folder(self) -> None:
        data = SyntheticDataModule(n_clips=6, side=16, n_frames=1, batch_size=2, val_share=0.5)
        settings = ModuleOnClips(ConventionalAnonymizer("fill"), data).data_settings
        assert settings["_target_"].endswith("SyntheticDataModule")
        assert settings["batch_size"] == 2
        assert "path" not in settings


class TestMaskers:
    PATH = Path("clip.tracks.json")

    def of(self, maskers: Maskers, node: object) -> tuple[object, object, str]:
        settings = {"people": {"masker": node}}
        record = TracksRecord("clip.mp4", "", 4, 4, 0, 25.0, np.zeros(0), (), (), settings=settings)
        return maskers.of(None, record, self.PATH)

    def test_the_recorded_one_is_made_once(self) -> None:
        maskers = Maskers(box_masker())
        one, settings, place = self.of(maskers, BOX_MASKER)
        assert (settings, place) == (BOX_MASKER, "tracks file")
        assert self.of(maskers, dict(BOX_MASKER))[0] is one
        assert self.of(maskers, {**BOX_MASKER, "dilation_px": 2})[0] is not one

    def test_the_default_describes_itself(self) -> None:
        default = box_masker()
        masker, settings, place = Maskers(default, is_recorded_preferred=False).of(None, None, self.PATH)
        assert masker is default
        assert place == "settings"
        assert str(settings["_target_"]).endswith("BoxMasker")

    @pytest.mark.parametrize(
        ("node", "message"),
        [
            ({"_target_": "os.system"}, "refused _target_ os.system"),
            ({**BOX_MASKER, "wrong": 1}, r"clip\.tracks\.json: pa_lib\.people\.BoxMasker: .*wrong"),
            (
                {"_target_": "pa_lib.people.HideAll"},
                "HideAll: expected a kind of AbstractMasker.*; is_masker_recorded=false",
            ),
            ({"_target_": "pa_lib.people.write_tracks", "path": "x"}, "write_tracks: it is a function"),
        ],
    )
    def test_a_file_can_only_name_public_maskers(self, node: dict[str, object], message: str) -> None:
        with pytest.raises(PaLibError, match=message):
            self.of(Maskers(), node)


def test_a_clip_with_people_says_nothing() -> None:
    assert notes_of([QUIET, replace(QUIET, n_hidden=None)]) == ()


def test_clips_in_which_nobody_is_hidden_are_named() -> None:
    empty = [replace(QUIET, name=f"{at}.mp4", n_hidden=0) for at in range(5)]
    (note,) = notes_of(empty[:1])
    assert note.startswith("no person is hidden in 0.mp4: ")
    (note,) = notes_of([QUIET, empty[2]])
    assert note.startswith("no person is hidden in 1 of 2 videos (2.mp4): ")
    (note,) = notes_of([*empty, QUIET])
    assert note.startswith("no person is hidden in 5 of 6 videos (0.mp4, 1.mp4, 2.mp4 and 2 more): ")


def test_frames_that_are_missing_or_blank_are_counted_over_clips() -> None:
    clips = [replace(QUIET, n_undecodable=2, n_redacted=1), replace(QUIET, n_undecodable=1)]
    missing, blank = notes_of(clips)
    assert missing.startswith("3 frames could not be decoded")
    assert blank.startswith("1 frame blanked whole")


def test_guessed_masks_are_told() -> None:
    (note,) = notes_of([QUIET, replace(QUIET, masker_from="settings")])
    assert "masks are those of people/masker" in note


def test_rates_that_chance_reaches_are_named() -> None:
    rates = {"reidentification_rank1": 0.5, "reidentification_rank5": 1.0}
    few = {"reidentification_chance_rank1": 0.25, "reidentification_chance_rank5": 1.0}
    (note,) = notes_on(evaluation({**rates, **few}).metrics)
    assert note.startswith("reidentification_rank5: chance is 1")
    assert notes_on(evaluation({**rates, **few, "reidentification_chance_rank5": 0.9}).metrics) == ()


def test_the_loss_of_an_encoder_is_noted_where_only_files_are_measured() -> None:
    (encoded,) = evaluation({"unmasked_identical_share": 0.06}).metrics
    (note,) = notes_on([encoded])
    assert "encoder with loss" in note
    assert notes_on([encoded, replace(encoded, measured_on="composited")]) == ()
    assert notes_on(evaluation({"unmasked_identical_share": 1.0}).metrics) == ()
