"""Outlines in time: moved by what moves, given to the network as believed, and never less than both sides agree on."""

from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from pa_lib.contracts import Box, HeadPose, OutlinePrompt, Presence, Track
from pa_lib.errors import ProtectionError
from pa_lib.people.outlines import Moment, Moments, Outline, heads_of, steady_outline

HEIGHT, WIDTH = 90, 140
STEP = 6


def presence(at: int = 0, person_id: int = 1, track_id: int = 1) -> Presence:
    boxes = np.array([[20, 10, 70, 80]], np.float32) + STEP * at * np.array([1, 0, 1, 0], np.float32)
    return Presence(person_id, Track(track_id, "body", np.array([at]), boxes, np.ones(1, np.float32)), 0)


def picture(at: int) -> NDArray[np.uint8]:
    """A smooth pattern, on which a textured person moves to the right, six pixels a frame."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    image = np.repeat((40 + x / 4 + y / 8).astype(np.uint8)[..., None], 3, 2)
    coat = np.kron(rng.integers(90, 255, (12, 8)), np.ones((4, 4))).astype(np.uint8)
    image[20:68, 30 + STEP * at : 62 + STEP * at] = coat[..., None]
    return image


def outline(at: int) -> NDArray[np.float32]:
    mask = np.zeros((HEIGHT, WIDTH), np.float32)
    mask[20:68, 30 + STEP * at : 62 + STEP * at] = 1
    return mask


class Told:
    """A network whose answer to each picture is given; remembers what it was asked."""

    def __init__(self, answers: dict[bytes, NDArray[np.float32]]) -> None:
        self.answers = answers
        self.asked: list[tuple[OutlinePrompt, NDArray[np.float32] | None]] = []

    def silhouette(self, image: NDArray[np.uint8], boxes: Sequence[Box]) -> list[tuple[int, int, NDArray[np.float32]]]:
        return [(top, left, shares[0]) for top, left, shares in self.outlines(image, [OutlinePrompt(b) for b in boxes])]

    def outlines(
        self,
        image: NDArray[np.uint8],
        prompts: Sequence[OutlinePrompt],
        believed: Sequence[NDArray[np.float32] | None] | None = None,
    ) -> list[tuple[int, int, NDArray[np.float32]]]:
        known = [None] * len(prompts) if believed is None else believed
        self.asked += zip(prompts, known, strict=True)
        this = self.answers[image.tobytes()]
        return [(0, 0, np.stack([this, np.zeros_like(this)])) for _ in prompts]


def moments(n: int = 3) -> list[Moment]:
    return [
        Moment(picture(at), [presence(at)], {1: (45.0 + STEP * at, 20.0, 5.0), 2: (90.0, 20.0, 5.0)}) for at in range(n)
    ]


def network(of_here: NDArray[np.float32]) -> Told:
    return Told({picture(at).tobytes(): of_here if at == 1 else outline(at) for at in range(3)})


def test_a_frame_that_loses_a_person_has_what_both_neighbours_agree_on() -> None:
    told = network(np.zeros((HEIGHT, WIDTH), np.float32))
    before, here, after = moments()
    found = steady_outline(told, Moments(before, here, after), presence(1)).whole(HEIGHT, WIDTH) > 0.5
    truth = outline(1) > 0.5
    assert (found & truth).sum() / (found | truth).sum() > 0.8  # flow is not exact at edges


def test_what_one_neighbour_alone_sees_is_believed_but_not_taken() -> None:
    told = network(np.zeros((HEIGHT, WIDTH), np.float32))
    before, here, _ = moments()
    assert not steady_outline(told, Moments(before, here, None), presence(1)).likely.any()
    (_, nothing), (prompt, believed) = told.asked
    assert nothing is None
    assert believed is not None
    truth = outline(1) > 0.5
    assert ((believed > 0.5) & truth).sum() / ((believed > 0.5) | truth).sum() > 0.8
    assert prompt == OutlinePrompt(presence(1).box, (51.0, 20.0, 5.0), [(90.0, 20.0, 5.0)])


def test_nothing_that_this_frame_shows_is_lost() -> None:
    more = np.maximum(outline(1), outline(-4))
    before, here, after = moments()
    found = steady_outline(network(more), Moments(before, here, after), presence(1)).whole(HEIGHT, WIDTH)
    assert (found >= more).all()


def test_a_frame_alone_is_asked_once_however_often_it_is_a_neighbour() -> None:
    told = network(outline(1))
    before, here, after = moments()
    alone = steady_outline(told, Moments(None, here, None), presence(1))
    np.testing.assert_array_equal(alone.whole(HEIGHT, WIDTH), outline(1))
    steady_outline(told, Moments(here, after, None), presence(2))
    steady_outline(told, Moments(before, here, after), presence(1))
    assert [believed is None for _, believed in told.asked] == [True, False, True, True, False]


def test_somebody_else_in_a_neighbouring_frame_says_nothing() -> None:
    told = network(outline(1))
    before, here, _ = moments()
    before.kept = [presence(0, track_id=7)]
    steady_outline(told, Moments(before, here, None), presence(1))
    assert [believed is None for _, believed in told.asked] == [True]


def test_a_person_is_asked_for_by_all_boxes_of_a_moment() -> None:
    """A detector that loses the arms in one frame does not cut them off."""
    sides = [(20, 10, 70, 80), (5, 12, 60, 80), (30, 10, 70, 60), (22, 8, 72, 80), (20, 10, 95, 84), (0, 0, 140, 90)]
    track = Track(1, "body", np.arange(6), np.array(sides, np.float32), np.ones(6, np.float32))
    told = network(outline(1))
    Moment(picture(1), [], {}).alone(told, Presence(1, track, 2))
    ((prompt, _),) = told.asked
    assert prompt.box == (5.0, 8.0, 95.0, 84.0)


def test_numbers_that_are_none_are_refused() -> None:
    told = network(np.full((HEIGHT, WIDTH), np.nan, np.float32))
    with pytest.raises(ProtectionError, match="NaN"):
        steady_outline(told, Moments(None, moments()[1], None), presence(1))


def test_background_counts_less_than_others() -> None:
    """Against exact fractions: as likely as others, as background, and as both."""
    shares = np.array([[[0.5, 0.5, 0.25, 0.0]], [[0.5, 0.0, 0.25, 0.0]]], np.float32)
    found = Outline.of(3, 4, shares)
    np.testing.assert_allclose(found.likely, [[1 / 2, 1 / 1.3, 0.25 / 0.65, 0]], atol=1e-6)
    whole = found.whole(6, 9)
    assert whole.shape == (6, 9)
    np.testing.assert_array_equal(whole[3, 4:8], found.likely[0])
    assert whole.sum() == pytest.approx(found.likely.sum())


def test_heads_are_where_poses_say() -> None:
    (x, y, radius) = heads_of([(4, HeadPose(50.0, 40.0, 10.0)), (5, None)])[4]
    assert abs(x - 50) < 1
    assert abs(y - 40) < 10
    assert 15 < radius < 30
