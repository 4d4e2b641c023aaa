"""Columns of a comparison: which runs belong together, what they are called, and the tables written of them."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from _evaluation import evaluation
from pa_lib.errors import InputError, PaLibError, SettingError
from pa_lib.reports import (
    Comparison,
    compare,
    comparison_csv,
    comparison_latex,
    comparison_markdown,
    evaluations_in,
    write_comparison,
)


def run(folder: Path, values: Mapping[str, float], config: Mapping[str, Any] | None = None, **more: Any) -> Path:
    folder.mkdir(parents=True)
    replace(evaluation(values, **more), config=config or {}).write_json(folder / "metrics.json")
    return folder


def settings(method: str, seed: int, **more: Any) -> dict[str, Any]:
    return {"seed": seed, "module": {"method": method, "seed": seed, "lr": 0.1, **more}, "processes": seed}


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    """Folders as a sweep makes them: two methods, three seeds, names that say nothing."""
    values = {"blur": (1.0, 2.0, 6.0), "fill": (9.0, 9.5, 10.0)}
    for number, (method, numbers) in enumerate(values.items()):
        for seed, value in enumerate(numbers):
            run(tmp_path / "sweep" / f"{number}{seed}ab", {"toy": value, "flat": 0.5}, settings(method, seed))
    return tmp_path / "sweep"


class TestColumns:
    def test_a_parent_folder_is_searched_and_seeds_are_one_column(self, sweep: Path) -> None:
        compared = compare([sweep])
        assert compared.names == ("method=blur", "method=fill")
        assert compared.columns[0].members == ("00ab", "01ab", "02ab")
        assert compared.columns[0].seeds[1] == "seed=1, module.seed=1"
        blur, fill = compared.rows[0].values
        assert blur is not None
        assert fill is not None
        # By hand: mean 3, deviations -2, -1, 3, so sd = sqrt(14 / 2); Student's t of 2 degrees is 4.302653.
        assert (blur.value, blur.n_runs) == (3.0, 3)
        assert blur.sd == pytest.approx(math.sqrt(7))
        half = 4.302653 * math.sqrt(7) / math.sqrt(3)
        assert blur.interval == pytest.approx((3 - half, 3 + half), abs=1e-5)
        assert fill.value == pytest.approx(9.5)
        assert fill.sd == pytest.approx(0.5)
        assert blur.counted == {"odd ones in 3 runs": 6}
        assert (compared.rows[0].best, compared.rows[0].mark) == ((1,), "intervals overlap")  # 3 ± 6.6 and 9.5 ± 1.2
        assert compared.rows[1].mark == "equal"

    def test_every_run_is_a_column_where_that_is_asked_for(self, sweep: Path) -> None:
        apart = compare([sweep], is_grouped_by_seed=False)
        assert len(apart.columns) == 6
        assert apart.names[0] == "00ab"  # the method alone does not tell them apart
        assert all(value is not None and value.sd is None for value in apart.rows[0].values)

    def test_runs_with_the_same_seed_differ_in_something_else(self, tmp_path: Path) -> None:
        for name in ("a", "b", "c"):
            run(tmp_path / name, {"toy": 1.0}, settings("blur", 2 if name == "c" else 0))
        assert compare([tmp_path]).names == ("a", "b", "c")

    def test_other_clips_are_never_averaged(self, tmp_path: Path) -> None:
        for seed, sha256 in enumerate(("a" * 64, "b" * 64)):
            run(tmp_path / str(seed), {"toy": 1.0}, settings("blur", seed), sha256=sha256)
        assert len(compare([tmp_path]).columns) == 2

    def test_seeds_in_a_protocol_are_no_other_protocol(self, tmp_path: Path) -> None:
        for method, value in (("blur", 1.0), ("fill", 2.0)):
            for seed in (0, 1):
                protocol = {"scale": 1, "seed": seed}
                at = tmp_path / method / str(seed)
                run(at, {"toy": value}, settings(method, seed), protocol=protocol, hash_=f"{seed}" * 12)
        compared = compare([tmp_path])
        assert not compared.is_refused
        assert compared.rows[0].best == (1,)

    def test_names_take_as_many_parts_as_it_takes(self, tmp_path: Path) -> None:
        run(tmp_path / "a", {"toy": 1.0}, {"module": {"sampler": {"steps": 5}, "noise": {"steps": 7}}})
        run(tmp_path / "b", {"toy": 2.0}, {"module": {"sampler": {"steps": 9}, "noise": {"steps": 8}}})
        assert compare([tmp_path]).names == ("sampler.steps=5, noise.steps=7", "sampler.steps=9, noise.steps=8")

    def test_classes_are_named_by_their_last_part(self, tmp_path: Path) -> None:
        for name in ("NoAdapter", "SpatialContentAdapter"):
            config = {"module": {"adapter": {"_target_": f"pa_lib.modules.{name}"}}, "device": name}
            run(tmp_path / name, {"toy": 1.0}, config)
        assert compare([tmp_path]).names == ("adapter=NoAdapter", "adapter=SpatialContentAdapter")

    def test_folders_name_runs_that_differ_in_too_much(self, tmp_path: Path) -> None:
        for at in (0, 1):
            run(tmp_path / f"r{at}", {"toy": 1.0}, dict.fromkeys("abcde", at))
        assert compare([tmp_path]).names == ("r0", "r1")

    def test_a_run_without_a_value_is_counted(self, tmp_path: Path) -> None:
        for seed, value in enumerate((1.0, 3.0, math.nan)):
            run(tmp_path / "blur" / str(seed), {"toy": value}, settings("blur", seed))
        run(tmp_path / "fill", {"toy": math.nan}, settings("fill", 0))
        blur = compare([tmp_path]).rows[0].values[0]
        assert blur is not None
        assert (blur.value, blur.n_runs, blur.counted["runs without a value"]) == (2.0, 2, 1)


class TestFound:
    def test_files_folders_and_parents(self, sweep: Path) -> None:
        one = sweep / "00ab"
        assert evaluations_in([one, one.parent / "01ab" / "metrics.json"]) == [
            one / "metrics.json",
            sweep / "01ab" / "metrics.json",
        ]
        assert len(evaluations_in([str(sweep)])) == 6

    def test_what_is_not_there_is_refused(self, sweep: Path, tmp_path: Path) -> None:
        (tmp_path / "empty").mkdir()
        with pytest.raises(InputError, match=r"empty: no metrics\.json there or in a folder below"):
            evaluations_in([tmp_path / "empty"])
        with pytest.raises(SettingError, match="given twice"):
            evaluations_in([sweep, sweep / "00ab"])


class TestTables:
    @pytest.fixture
    def compared(self, sweep: Path) -> Comparison:
        return compare([sweep], values=["toy"])

    def test_csv_has_all_digits(self, compared: Comparison) -> None:
        blur, fill = csv.DictReader(io.StringIO(comparison_csv(compared)))
        assert float(blur["sd"]) == pytest.approx(math.sqrt(7), rel=1e-15)
        assert (blur["column"], blur["value"], blur["n_runs"], blur["is_best"]) == ("method=blur", "3.0", "3", "0")
        assert (fill["is_best"], fill["better"], fill["measured_on"]) == ("1", "higher", "encoded")

    def test_latex_compiles_in_its_letters(self, compared: Comparison) -> None:
        lines = comparison_latex(compared).splitlines()
        assert lines[1] == r"\begin{tabular}{lrr}"
        assert r" & method=blur & method=fill \\" in lines
        assert r"toy $\uparrow$ & 3.0 $\pm$ 2.6 & \textbf{9.50 $\pm$ 0.50} \\" in lines

    def test_latex_escapes_names_and_writes_powers(self, tmp_path: Path) -> None:
        for name, value in (("a_b%", 1.5e-7), ("c&d", math.inf)):
            run(tmp_path / name, {"toy_x": value}, is_higher_better=None)
        text = comparison_latex(compare([tmp_path]))
        assert r" & a\_b\% & c\&d \\" in text
        assert r"toy\_x & $1.500 \times 10^{-7}$ & $\infty$ \\" in text

    def test_markdown_marks_the_best(self, compared: Comparison) -> None:
        assert comparison_markdown(compared) == (
            "| value | method=blur | method=fill |\n| --- | ---: | ---: |\n| toy ↑ | 3.0 ± 2.6 | **9.50 ± 0.50** |\n\n"
            "± is the standard deviation over 3 runs with other seeds.\n"
        )

    def test_values_are_chosen_by_name_and_order(self, sweep: Path) -> None:
        assert [row.name for row in compare([sweep], values=["flat", "toy"]).rows] == ["flat", "toy"]
        with pytest.raises(PaLibError, match="values: no nosuch in these evaluations; there are: flat, toy"):
            compare([sweep], values=["nosuch"])

    def test_all_files_are_written(self, compared: Comparison, tmp_path: Path) -> None:
        files = write_comparison(compared, tmp_path / "out")
        assert set(files) == {"page", "csv", "latex", "markdown", "record"}
        assert all(path.stat().st_size > 0 for path in files.values())
        assert "n = 3 runs" in files["page"].read_text()
