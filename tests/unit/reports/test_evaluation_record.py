"""Records, pages and comparisons of evaluations."""

from __future__ import annotations

import json
import math
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from _evaluation import evaluation
from pa_lib.errors import PaLibError
from pa_lib.metrics import TrackRow
from pa_lib.reports.comparison import OTHER_MATERIAL, OTHER_PROTOCOL, compare
from pa_lib.reports.evaluation_page import render_comparison, render_evaluation, write_evaluation, write_page
from pa_lib.reports.evaluation_record import Evaluation, TrackSummary, differences, rank_tracks
from pa_lib.reports.plots import run_plot, track_plot
from pa_lib.reports.text import NOTHING


class Checked(HTMLParser):
    """Every tag that is opened is closed, ids are unique, and nothing is asked of the network."""

    VOID = frozenset({"meta", "br", "img", "link", "hr", "input"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        told = dict(attrs)
        if identity := told.get("id"):
            self.ids.append(identity)
        for name in ("src", "href", "xlink:href"):
            assert (told.get(name) or "#").startswith(("#", "data:")), told
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def check_page(page: str) -> None:
    checked = Checked()
    checked.feed(page)
    assert not checked.open
    assert len(checked.ids) == len(set(checked.ids))
    assert "<script" not in page
    assert not re.search(r"#0[1-9a-f]0[1-9a-f]0[1-9a-f]\b", page), "a placeholder of a colour is left"


class TestEvaluation:
    @given(st.floats(allow_nan=True, allow_infinity=True), st.floats(allow_nan=True, allow_infinity=True))
    def test_numbers_come_back_from_the_file(self, value: float, end: float) -> None:
        import tempfile

        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "metrics.json"
            evaluation({"toy": value}, interval=(end, value)).write_json(path)
            json.loads(path.read_text(), parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
            (record,) = Evaluation.read_json(Path(folder)).metrics
            (figure,) = record.values
        for told, expected in ((figure.value, value), ((figure.interval or ())[0], end)):
            assert told == expected or (math.isnan(told) and math.isnan(expected))

    def test_all_of_it_comes_back(self, tmp_path: Path) -> None:
        one = evaluation({"toy": 1.5, "toy_b": 2.0}, tracks=[TrackRow(0, 1, {"toy": 0.25})])
        one.write_json(tmp_path / "metrics.json")
        assert Evaluation.read_json(tmp_path / "metrics.json") == one
        assert Evaluation.read_json(tmp_path).material == one.material

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            ("{", "is damaged"),
            ("[]", "has the schema None"),
            ('{"schema": "pa_lib.metrics", "schema_version": 99}', "expected pa_lib.metrics version 1"),
            ('{"schema": "pa_lib.metrics", "schema_version": 1, "metrics": 3}', "is damaged"),
            ('{"schema": "pa_lib.metrics", "schema_version": 1, "metrics": []}', "is damaged"),
        ],
    )
    def test_other_files_are_refused_in_one_line(self, content: str, message: str, tmp_path: Path) -> None:
        (tmp_path / "metrics.json").write_text(content)
        with pytest.raises(PaLibError, match=message) as caught:
            Evaluation.read_json(tmp_path)
        assert "\n" not in str(caught.value)

    def test_a_missing_file_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(PaLibError, match=r"metrics\.json cannot be read .No such file"):
            Evaluation.read_json(tmp_path)

    def test_material_hangs_on_the_originals_and_masks_on_tracks(self) -> None:
        one, other = evaluation({"toy": 1.0}), evaluation({"toy": 2.0}, sha256="b" * 64)
        assert one.material == evaluation({"toy": 3.0}).material != other.material
        assert one.masks == other.masks != evaluation({"toy": 1.0}, tracks_sha256="u" * 64).masks


def test_ranking_takes_the_worst_place_of_each() -> None:
    tracks = [
        TrackRow(0, 1, {"toy": 0.9, "other": 5.0}),
        TrackRow(0, 2, {"toy": 0.1}),  # the lowest of what should be high
        TrackRow(1, 1, {"toy": 0.5}),
        TrackRow(2, 1, {"toy": math.nan}),  # nothing known: last
    ]
    order = rank_tracks(evaluation({"toy": 0.5}, tracks=tracks).metrics)
    assert [(one.clip, one.person_id) for one in order] == [(0, 2), (1, 1), (0, 1), (2, 1)]
    assert [one.worst for one in order] == ["toy", "toy", "toy", None]
    assert [one.rank for one in order[:3]] == [0.0, 0.5, 1.0]
    reverse = rank_tracks(evaluation({"toy": 0.5}, tracks=tracks, is_higher_better=False).metrics)
    assert [one.person_id for one in reverse[:1]] == [1]
    assert {
        one.worst for one in rank_tracks(evaluation({"toy": 1.0}, tracks=tracks, is_higher_better=None).metrics)
    } == {None}


def test_differences_are_named_by_their_place() -> None:
    assert differences({"a": {"b": 1, "c": 2}}, {"a": {"b": 1, "c": 3}, "d": None}) == [
        "a.c: 2 | 3",
        "d: (absent) | null",
    ]


def written(folder: Path, one: Evaluation) -> Path:
    folder.mkdir()
    one.write_json(folder / "metrics.json")
    return folder


class TestCompare:
    def test_the_best_is_marked_by_its_side(self, tmp_path: Path) -> None:
        runs = [
            written(tmp_path / f"r{at}.evaluation", evaluation({"toy": value})) for at, value in enumerate((1, 3, 2))
        ]
        told = compare(runs)
        assert told.names == ("r0", "r1", "r2")
        assert [(row.best, row.mark) for row in told.rows] == [((1,), "")]
        assert not told.is_refused
        lower = [
            written(tmp_path / f"l{at}", evaluation({"toy": value}, is_higher_better=False))
            for at, value in enumerate((1, 3))
        ]
        assert compare(lower).rows[0].best == (0,)

    def test_other_protocols_are_shown_and_not_ranked(self, tmp_path: Path) -> None:
        one = written(tmp_path / "a", evaluation({"toy": 1.0}))
        two = written(tmp_path / "b", evaluation({"toy": 2.0}, protocol={"scale": 2}, hash_="f" * 12))
        told = compare([one, two])
        assert told.is_refused
        assert [(row.best, row.mark) for row in told.rows] == [((), OTHER_PROTOCOL)]
        assert told.differing == {"toy (encoded)": ("a | b: scale: 1 | 2",)}
        assert [figure and figure.value for figure in told.rows[0].values] == [1.0, 2.0]

    def test_other_clips_are_not_ranked_and_other_masks_are_told(self, tmp_path: Path) -> None:
        one = written(tmp_path / "a", evaluation({"toy": 1.0}))
        two = written(tmp_path / "b", evaluation({"toy": 2.0}, sha256="b" * 64))
        three = written(tmp_path / "c", evaluation({"toy": 2.0}, tracks_sha256="u" * 64))
        assert compare([one, two]).rows[0].mark == OTHER_MATERIAL
        masks = compare([one, three])
        assert masks.rows[0].best == (1,)
        assert any("tracks files or maskers differ" in note for note in masks.notes)

    def test_nan_is_never_ranked_and_equal_is_said(self, tmp_path: Path) -> None:
        one = written(tmp_path / "a", evaluation({"toy": 1.0}))
        nan = written(tmp_path / "b", evaluation({"toy": math.nan}))
        same = written(tmp_path / "c", evaluation({"toy": 1.0}))
        assert (compare([one, nan]).rows[0].best, compare([one, nan]).rows[0].mark) == (
            (),
            "not ranked: nothing to measure in some runs",
        )
        assert (compare([one, same]).rows[0].best, compare([one, same]).rows[0].mark) == ((), "equal")

    def test_overlapping_intervals_are_told(self, tmp_path: Path) -> None:
        one = written(tmp_path / "a", evaluation({"toy": 1.0}, interval=(0.5, 1.5)))
        two = written(tmp_path / "b", evaluation({"toy": 2.0}, interval=(1.4, 2.6)))
        far = written(tmp_path / "c", evaluation({"toy": 9.0}, interval=(8.0, 10.0)))
        assert compare([one, two]).rows[0].mark == "intervals overlap"
        assert compare([one, far]).rows[0].mark == ""

    def test_what_cannot_be_compared_is_one_line(self, tmp_path: Path) -> None:
        one = written(tmp_path / "a", evaluation({"toy": 1.0}))
        other = written(tmp_path / "b", evaluation({"else": 1.0}))
        with pytest.raises(PaLibError, match="two or more"):
            compare([one])
        with pytest.raises(PaLibError, match="given twice"):
            compare([one, one])
        with pytest.raises(PaLibError, match="no two runs have a value in common"):
            compare([one, other])

    def test_it_is_written_as_json(self, tmp_path: Path) -> None:
        one = written(tmp_path / "a", evaluation({"toy": math.inf}))
        nan = written(tmp_path / "b", evaluation({"toy": math.nan}))
        compare([one, nan]).write_json(tmp_path / "compare.json")
        told = json.loads((tmp_path / "compare.json").read_text())
        assert [figure["value"] for figure in told["rows"][0]["values"]] == ["inf", None]


class TestPages:
    def test_an_evaluation(self) -> None:
        tracks = [TrackRow(0, person, {"toy": person / 10}) for person in range(1, 6)]
        page = render_evaluation(evaluation({"toy": 1.25, "toy_rate": 0.5}, interval=(1.0, 1.5), tracks=tracks))
        check_page(page)
        assert page.count("<svg") == 2  # intervals, and people
        assert "var(--series-0)" in page
        assert page.index("person 1<") < page.index("person 2<") < page.index("person 5<")
        assert "counted apart: 2 odd ones" in page

    def test_nan_is_a_dash_and_infinity_a_sign(self) -> None:
        page = render_evaluation(evaluation({"toy": math.nan, "toy_b": math.inf}))
        check_page(page)
        assert f">{NOTHING}<" in page
        assert ">∞<" in page

    def test_names_cannot_break_out(self) -> None:
        from dataclasses import replace

        page = render_evaluation(replace(evaluation({"toy": 1.0}), title="<b onload=x>&", notes=("<i>",)))
        check_page(page)
        assert "<b onload" not in page

    def test_a_comparison(self, tmp_path: Path) -> None:
        runs = [
            written(tmp_path / name, evaluation({"toy": value, "toy_nan": math.nan}, interval=(value - 1, value + 1)))
            for name, value in (("blur", 1.0), ("fill", 5.0))
        ]
        page = render_comparison(compare(runs))
        check_page(page)
        assert page.count("<svg") == 1
        assert page.count('class="num best"') == 1

    def test_a_protocol_is_named_once_where_all_share_it(self, tmp_path: Path) -> None:
        same = [written(tmp_path / name, evaluation({"toy": 1.0, "toy_b": 2.0})) for name in ("a", "b")]
        page = render_comparison(compare(same))
        assert page.count("0123456789ab") == 1
        other = written(tmp_path / "c", evaluation({"toy": 1.0}, protocol={"scale": 2}, hash_="f" * 12))
        page = render_comparison(compare([same[0], other]))
        assert (page.count("0123456789ab"), page.count("f" * 12)) == (2, 1)  # toy in both runs, toy_b in one

    def test_one_thing_is_told_in_the_singular(self) -> None:
        page = render_evaluation(evaluation({"toy": 1.0}))
        assert "20 frames of 1 video, 1 metric." in page

    def test_a_page_that_cannot_be_written_is_one_line(self, tmp_path: Path) -> None:
        with pytest.raises(PaLibError, match=r"output folder .*new does not exist; create it"):
            write_page(tmp_path / "new" / "page.html", "")
        write_page(tmp_path / "page.html", "é")
        assert (tmp_path / "page.html").read_bytes() == b"\xc3\xa9"
        with pytest.raises(PaLibError, match=r"page.html: got a file, expected a folder"):
            write_evaluation(evaluation({"toy": 1.0}), tmp_path / "page.html" / "below")


class TestPlots:
    @staticmethod
    def people(*values: float) -> list[TrackSummary]:
        return [TrackSummary(0, at, {"toy": value}, "toy", 0.0) for at, value in enumerate(values)]

    @pytest.mark.parametrize("is_higher_better", [True, False, None])
    def test_people_are_named_and_the_worst_is_first(self, is_higher_better: bool | None) -> None:
        svg = track_plot(
            "toy", self.people(0.5, 0.1, math.nan, 0.4, 0.3, 0.2), is_higher_better, lambda one: f"who-{one.person_id}"
        )
        assert svg is not None
        rising = ["who-1", "who-5", "who-4", "who-3", "who-0"]
        assert re.findall(r"who-\d", svg) == (rising if is_higher_better else rising[::-1])

    @pytest.mark.parametrize("values", [(), (0.1, 0.2, 0.3, 0.4), (0.3,) * 9, (0.1, 0.2, *[math.nan] * 7)])
    def test_what_the_table_tells_as_well_is_not_drawn(self, values: tuple[float, ...]) -> None:
        assert track_plot("toy", self.people(*values), True, lambda one: "") is None

    def test_long_names_keep_their_end(self) -> None:
        svg = track_plot("toy", self.people(1, 2, 3, 4, 5), True, lambda one: f"{'x' * 90}, person {one.person_id}")
        assert svg is not None
        assert "person 3" in svg
        assert "x" * 28 not in svg

    def test_figures_in_which_runs_are_equal_are_not_drawn(self, tmp_path: Path) -> None:
        runs = [
            written(tmp_path / name, evaluation({"toy": value, "toy_source": 3.0, "toy_inf": math.inf}))
            for name, value in (("blur", 2e-5), ("fill", 7e-5))
        ]
        told = compare(runs)
        svg = run_plot("toy", told.rows, told.names)
        assert svg is not None
        assert ">toy<" in svg
        assert "toy_source" not in svg
        assert "toy_inf" not in svg
        assert "2.000e-05" in svg  # written out, no power of ten apart
        assert run_plot("toy", told.rows[1:], told.names) is None
