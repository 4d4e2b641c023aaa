"""The values of doubles beside their goals, as tables."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from _bench import Table, show
from doubles_clips import CLIPS, INTEL
from doubles_measures import BLOCK, EDGE_PX, LEAST_SKIN, SKIN_CHROMA, SKIN_LIGHTNESS
from doubles_portraits import SIDE
from doubles_rows import OURS
from embedded_weights import Record, cell

Goals = dict[str, bool]
Records = Mapping[str, Record]  # by row
Values = Mapping[str, Any]


@dataclass(frozen=True)
class Goal:
    """One line of a table.

    Args:
        text: What is measured.
        name: Its name among the values.
        wanted: The goal in words; empty where there is none.
        is_reached: Whether a value reaches it, given all values of the row; None where there is no goal.
        scale: What values are multiplied by to be shown.
    """

    text: str
    name: str
    wanted: str = ""
    is_reached: Callable[[float, Values], bool] | None = None
    scale: float = 1.0


Line = tuple[Goal, str, Mapping[str, Values]]


def at_most(most: float) -> Callable[[float, Values], bool]:
    return lambda value, values: value <= most


def at_least(least: float) -> Callable[[float, Values], bool]:
    return lambda value, values: value >= least


def between(least: float, most: float) -> Callable[[float, Values], bool]:
    return lambda value, values: least <= value <= most


def by_chance(name: str, chance: str) -> Callable[[float, Values], bool]:
    """Whether the interval of a rate reaches down to what chance gives."""
    return lambda value, values: values[name]["interval"][0] <= values[chance]["value"]


def _line(goal: Goal, text: str, rows: Mapping[str, Values], goals: Goals) -> tuple[Any, ...]:
    """Cells of one goal; whether the first row reaches it is added to `goals`."""
    first = next(iter(rows.values()))
    is_reached: bool | None = None
    value = first[goal.name]["value"] if goal.name in first else None
    if goal.is_reached is not None and isinstance(value, float | int) and not math.isnan(value):
        is_reached = goal.is_reached(float(value), first)
        goals[text.removesuffix(", %")] = is_reached
    verdict = None if is_reached is None else "yes" if is_reached else "**no**"
    cells = [cell(_with_float(of[goal.name]), goal.scale) if goal.name in of else "-" for of in rows.values()]
    return text, goal.wanted or "-", cells[0], verdict, *cells[1:]


def _with_float(figure: Mapping[str, Any]) -> Mapping[str, Any]:
    return {**figure, "value": float(figure["value"])} if isinstance(figure["value"], int) else figure


def _of(what: str, goals: Sequence[Goal], rows: Mapping[str, Values]) -> list[Line]:
    """Lines of a table, with what they are about before them."""
    return [(goal, f"{what}: {goal.text}", rows) for goal in goals]


def _table(title: str, goals: Sequence[Line], notes: list[str]) -> tuple[Table, Goals]:
    reached: Goals = {}
    lines = [_line(goal, text, rows, reached) for goal, text, rows in goals]
    first, *others = goals[0][2]
    return Table(title, ("what", "goal", first, "reached", *others), lines, notes), reached


# -- portraits ---------------------------------------------------------------------------------------------------------

POSE = (
    Goal("sharpness inside, of the source's", "sharpness", "0.9 to 1.1", between(0.9, 1.1)),
    Goal("eye line, degrees from the filmed", "eye_line", "at most 3", at_most(3.0)),
    Goal("landmarks, % of the eye distance from the filmed", "landmarks", "at most 6", at_most(0.06), 100.0),
    Goal("change across the mask's edge, of the source's", "seam", "at most 1.3", at_most(1.3)),
    Goal("skin of the head against visible skin, Lab", "light", "at most 10", at_most(10.0)),
    Goal("the same of the filmed head", "light_filmed"),
)


def portraits_table(records: Records) -> tuple[Table, Goals]:
    """Held-out portraits."""
    strangers = next(iter(records.values()))["strangers"]
    distance, near = strangers["distance"]["value"], strangers["near"]
    goals = (
        Goal("face still found, %", "detection_rate", "at least 99", at_least(0.99), 100.0),
        Goal(
            "identity distance to the source",
            "identity_distance",
            f"at least {show(distance)}, between strangers",
            at_least(distance),
        ),
        Goal(
            "within the same-person distance 0.6 of the source, %",
            "identity_faces_recognized",
            f"at most {show(100 * near['interval'][1])}, as strangers",
            at_most(near["interval"][1]),
            100.0,
        ),
        Goal(
            "own photo found first, %",
            "own_reidentification_rank1",
            "chance within the interval",
            by_chance("own_reidentification_rank1", "own_reidentification_chance_rank1"),
            100.0,
        ),
        Goal(
            "another photo of the person found first, %",
            "reidentification_rank1",
            "chance within the interval",
            by_chance("reidentification_rank1", "reidentification_chance_rank1"),
            100.0,
        ),
        *POSE,
        Goal("Fréchet distance of identities", "frechet_identity_distance"),
    )
    first = next(iter(records.values()))
    values = {row: record["values"] for row, record in records.items()}
    of = first["values"]
    notes = [
        f"{first['n']} held-out portraits in which the finder sees a face, {SIDE} px, faces about 52 px; each is a "
        "video of one frame: pose from detected landmarks, head mask. Identities by dlib's network, Euclidean. "
        f"Strangers: different people on these portraits, {cell(strangers['distance'])} on average, "
        f"{cell(strangers['near'], 100)} % of pairs within 0.6. Chance: "
        f"{cell(of['own_reidentification_chance_rank1'], 100)} % and "
        f"{cell(of['reidentification_chance_rank1'], 100)} %, of {of['reidentification_rank1']['n']} "
        "portraits of people with two or more. Intervals: 95 %, Wilson for shares, Student's t over faces for "
        "distances, draws of portraits for the rest. Fréchet distances are too large by the few portraits, for all "
        "rows alike.",
        _how_measured(of["light"]["n"], "portraits"),
    ]
    return _table("Doubles: held-out portraits", _of("portraits", goals, values), notes)


def _how_measured(n_skin: int, what: str) -> str:
    return (
        "Eye line and landmarks: of faces found in both, the five landmarks after against before; the eye distance as "
        f"it would be from the front. Change across the edge: of color, from {EDGE_PX} px inside to {EDGE_PX} px "
        "outside. Skin: median between eyes and mouth against that of visible pixels beside and below the head which "
        f"are within {SKIN_CHROMA:g} (a b) and {SKIN_LIGHTNESS:g} (L) of the filmed face, at least {LEAST_SKIN} of "
        f"them, which {n_skin} {what} have; wood and clothes of that color count too."
    )


# -- clips -------------------------------------------------------------------------------------------------------------


def clips_table(records: Records) -> tuple[Table, Goals]:
    """Real clips."""
    lines = []
    for clip in CLIPS:
        steady = ("at most 1.5", at_most(1.5)) if clip in INTEL else ("", None)
        goals = (
            Goal("face still found, %", "detection_rate", "at least 99", at_least(0.99), 100.0),
            Goal("identity distance to the source, mean of tracks", "identity_distance"),
            Goal("the least in any frame", "nearest_in_any_frame"),
            Goal("pairs of people beyond 0.6 of each other, %", "pairs_apart", "100", at_least(1.0), 100.0),
            Goal("the same of the filmed people, %", "pairs_apart_filmed", scale=100.0),
            Goal("the nearest pair", "nearest_pair"),
            Goal("warping error inside, of the source's", "warping", *steady),
            *POSE,
            Goal("kept pixels identical before encoding, %", "unmasked_identical_share", "100", at_least(1.0), 100.0),
        )
        values = {row: record[clip]["values"] for row, record in records.items()}
        lines += _of(clip, goals, values)
    first = next(iter(records.values()))
    sizes = ", ".join(
        f"{clip} {first[clip]['frames']} frames with {first[clip]['heads']} heads and "
        f"{first[clip]['values']['identity_distance']['n']} tracks of faces of 20 px and more"
        for clip in CLIPS
    )
    notes = [
        f"{sizes}; everybody's whole head, before encoding. Warping error by DIS flow. Pairs: distances between the "
        "mean identities of two people's tracked faces; of small faces, filmed ones too, the network sees little. "
        "Intervals: 95 %; Wilson for shares, Student's t over tracks for distances, draws of blocks of "
        f"{BLOCK} frames (of a person, where it is about faces) for the rest: other clips and people vary more.",
        _how_measured(sum(first[clip]["values"]["light"]["n"] for clip in CLIPS), "faces in all clips"),
    ]
    return _table("Doubles: clips", lines, notes)


# -- attackers and speed -----------------------------------------------------------------------------------------------


def attackers_table(records: Records) -> tuple[Table, Goals]:
    """Attackers who learn."""
    goals = (
        Goal(
            "parrot, named first, %",
            "parrot_rank1",
            "chance within the interval",
            by_chance("parrot_rank1", "parrot_chance"),
            100.0,
        ),
        Goal("named among the first five, %", "parrot_rank5", scale=100.0),
        Goal(
            "restored face finds the person first, %",
            "reversal_rank1",
            "chance within the interval",
            by_chance("reversal_rank1", "reversal_chance"),
            100.0,
        ),
        Goal("restored face within 0.6, %", "reversal_same_person", scale=100.0),
        Goal("distance of restored faces", "reversal_distance"),
    )
    values = {row: record["values"] for row, record in records.items()}
    of = next(iter(values.values()))
    recorded = [row for row, record in records.items() if record["is_recorded"]]
    notes = [
        f"As in [Attackers](#attackers): {of['parrot_rank1']['n']} people named by an attacker who learned from "
        f"anonymized photos, chance {100 * of['parrot_chance']['value']:.2f} %; {of['reversal_rank1']['n']} faces "
        f"restored, chance {100 * of['reversal_chance']['value']:.2f} %. Doubles are placed by the "
        "photos' landmarks, under the photos' masks. An average face is within 0.6 of most people: see fill there."
        + (f" From there: {', '.join(recorded)}." if recorded else "")
    ]
    return _table("Doubles: attackers who learn", _of("attackers", goals, values), notes)


def speed_table(records: Records) -> tuple[Table, Goals]:
    """Whole commands."""
    goals = (
        Goal("480x270: heads a second", "480x270_heads_s", "at least 8", at_least(8.0)),
        Goal("480x270: peak MiB", "480x270_peak_mib"),
        Goal("1920x1080: heads a second", "1920x1080_heads_s"),
        Goal("1920x1080: peak MiB", "1920x1080_peak_mib", "at most 2048", at_most(2048.0)),
    )
    first = next(iter(records.values()))
    runs = ", ".join(
        f"{size}: {of[0]['crops']} heads in {of[0]['frames']} frames, {len(of)} runs"
        for size, of in first["runs"].items()
    )
    notes = [
        f"Whole commands, start, search and encoding included, everybody's head; {first['threads']} threads; {runs}. "
        "Intervals: 95 %, Student's t over runs. Other work on the machine slows them down."
    ]
    values = {row: record["values"] for row, record in records.items()}
    return _table("Doubles: speed and memory", _of("speed", goals, values), notes)


def ordered(records: Mapping[str, Record]) -> dict[str, Record]:
    """Doubles first, whose goals these are."""
    return {row: records[row] for row in sorted(records, key=lambda row: row != OURS)}
