from __future__ import annotations

import pytest
import torch

from pa_lib.functional import body_reidentification


def _angles(*degrees: float) -> torch.Tensor:
    radians = torch.tensor(degrees).deg2rad()
    return torch.stack([radians.cos(), radians.sin()], 1)


def test_junk_of_the_same_camera_is_removed() -> None:
    # Nearest is the same person by the same camera, then junk, then a stranger, then the person by another camera.
    told = body_reidentification(
        _angles(0),
        _angles(1, 2, 3, 4, 5),
        torch.tensor([7]),
        torch.tensor([7, -1, 8, 7, 7]),
        torch.tensor([0]),
        torch.tensor([0, 1, 0, 1, 2]),
    )
    assert told.ranks.item() == 2
    assert told.n_gallery.item() == 3
    assert told.average_precision.item() == pytest.approx((1 / 2 + 2 / 3) / 2)
    assert told.inverse_penalty.item() == pytest.approx(2 / 3)


def test_strangers_of_the_same_camera_stay() -> None:
    told = body_reidentification(
        _angles(0), _angles(1, 2), torch.tensor([7]), torch.tensor([8, 7]), torch.tensor([0]), torch.tensor([0, 1])
    )
    assert told.ranks.item() == 2


def test_queries_without_a_match_are_told() -> None:
    told = body_reidentification(
        _angles(0, 9), _angles(1, 2), torch.tensor([7, 9]), torch.tensor([7, 7]), *torch.tensor([[0, 0], [0, 1]])
    )
    assert told.ranks.tolist() == [1, 0]


def test_equals_the_loop_of_the_protocol() -> None:
    generator = torch.Generator().manual_seed(3)
    queries, gallery = torch.randn(20, 8, generator=generator), torch.randn(60, 8, generator=generator)
    ids, gallery_ids = (torch.randint(-1 * (n == 60), 6, (n,), generator=generator) for n in (20, 60))
    cameras, gallery_cameras = (torch.randint(0, 3, (n,), generator=generator) for n in (20, 60))
    told = body_reidentification(queries, gallery, ids, gallery_ids, cameras, gallery_cameras)
    for at, query in enumerate(queries):
        order = sorted(range(60), key=lambda g: -torch.cosine_similarity(query, gallery[g], dim=0).item())
        hits = [
            int(gallery_ids[g] == ids[at])
            for g in order
            if gallery_ids[g] >= 0 and not (gallery_ids[g] == ids[at] and gallery_cameras[g] == cameras[at])
        ]
        places = [place for place, hit in enumerate(hits, 1) if hit]
        precision = sum(i / place for i, place in enumerate(places, 1)) / len(places)
        assert told.ranks[at] == places[0]
        assert told.average_precision[at].item() == pytest.approx(precision)
        assert told.inverse_penalty[at].item() == pytest.approx(len(places) / places[-1])


@pytest.mark.wrong_types
def test_refuses_cameras_that_do_not_fit() -> None:
    ids = torch.tensor([1, 2])
    with pytest.raises(ValueError, match=r"cameras have shapes \(1,\) and \(2,\)"):
        body_reidentification(_angles(0, 1), _angles(0, 1), ids, ids, ids[:1], ids)
