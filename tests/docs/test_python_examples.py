"""Every Python block of the documents runs as it stands, in the order of its page, in an empty folder.

What a page takes for granted (a file, a batch) is made in `GIVEN`. A block is passed over only where its first line is
``# Not run by the tests: REASON``, for readers to see as well.
"""

from __future__ import annotations

import doctest
import re
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from _clips import make_clip

ROOT = Path(__file__).parents[2]
PAGES = [
    path for path in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))) if "```python" in path.read_text()
]
NOT_RUN = re.compile(r"# Not run by the tests: \w+")
OF_THEIR_OWN = {"own_system.md": "test_own_system.py", "python.md": "test_python_page.py"}  # pages whose tests do more

Names = dict[str, Any]


def blocks(page: Path) -> list[tuple[int, str]]:
    """The line of the page at which each block begins, and the block."""
    text = page.read_text(encoding="utf-8")
    return [
        (text.count("\n", 0, match.start(1)), match[1])
        for match in re.finditer(r"^```python\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    ]


def faces_in_frames(names: Names, shared: Callable[[], Path]) -> None:
    """Two clips of two faces each, and the same with other faces in their place."""
    people = portraits(shared(), n_people=4, n_photos=1)
    clips = torch.stack([torch.cat([people[i], people[i + 1]], -1) for i in (0, 2)])[:, None].repeat(1, 2, 1, 1, 1)
    names["source"] = clips
    names["anonymized"] = clips.flip(0)
    names["masks"] = torch.ones_like(clips[:, :, :1])
    names["identities"] = torch.tensor([0, 1])


def portraits(folder: Path, n_people: int, n_photos: int) -> torch.Tensor:
    """Portraits, person by person: n 3 128 128 in [0, 1]."""
    with zipfile.ZipFile(folder / "faces" / "faces_permissive_128.zip") as archive:
        chosen = rows_of_people(archive, n_people, n_photos)
        pictures = [Image.open(archive.open(row["file"])).convert("RGB") for row in chosen]
        return torch.stack([torch.from_numpy(np.array(picture)).permute(2, 0, 1) / 255 for picture in pictures])


def rows_of_people(archive: zipfile.ZipFile, n_people: int, n_photos: int) -> list[dict[str, str]]:
    header, *lines = archive.read("index.tsv").decode().splitlines()
    rows = [dict(zip(header.split("\t"), line.split("\t"), strict=True)) for line in lines]
    counts = Counter(row["group"] for row in rows if row["group"])
    people = [name for name in sorted(counts) if counts[name] >= n_photos][:n_people]
    return [row for name in people for row in [row for row in rows if row["group"] == name][:n_photos]]


def small_zip_of_faces(names: Names, shared: Callable[[], Path]) -> None:
    """``faces.zip`` in the present folder: twelve people with two photos each."""
    with (
        zipfile.ZipFile(shared() / "faces" / "faces_permissive_128.zip") as archive,
        zipfile.ZipFile("faces.zip", "w") as target,
    ):
        rows = rows_of_people(archive, n_people=12, n_photos=2)
        target.writestr(
            "index.tsv", "\n".join("\t".join(row) for row in [list(rows[0]), *(list(r.values()) for r in rows)])
        )
        for row in rows:
            target.writestr(row["file"], archive.read(row["file"]))


def three_sets_of_photos(names: Names, shared: Callable[[], Path]) -> None:
    """Frames and landmarks of photos that were learned from, of other real ones, and of generated ones."""
    from pa_lib.data import FaceDataModule

    small_zip_of_faces(names, shared)
    photos = list(FaceDataModule("faces.zip", side=128).photos())
    frames = torch.stack([photo.frame for photo in photos])
    landmarks = torch.stack([photo.landmarks for photo in photos])
    names["photos"] = [(frames[part], landmarks[part]) for part in (slice(0, 8), slice(8, 16), slice(16, 24))]


def features_of_bodies(names: Names, shared: Callable[[], Path]) -> None:
    ids = torch.arange(6).repeat(4)
    names["ids"], names["cameras"] = ids, torch.arange(4).repeat_interleave(6)
    names["embeddings"] = torch.nn.functional.one_hot(ids, 512).float() + 0.1 * torch.rand(24, 512)
    names["is_query"] = names["cameras"] == 0


def clip(names: Names, shared: Callable[[], Path]) -> None:
    """``clip.mp4`` in the present folder."""
    make_clip(Path("clip.mp4"))


def trained_run(names: Names, shared: Callable[[], Path]) -> None:
    """``runs/stage_2`` in the present folder, of a tiny network."""
    from pa_lib.cli import train

    tiny = ["module/backbone=tiny", "data.n_clips=20", "data.n_frames=2", "data.batch_size=2", "trainer.max_steps=1"]
    settings = ["trainer.limit_val_batches=0", "~callbacks.progress", "~callbacks.preview", "~callbacks.best"]
    assert train.main(["experiment=passersby_2_temporal", *tiny, *settings, "output=runs/stage_2"]) == 0


GIVEN: dict[str, Callable[[Names, Callable[[], Path]], None]] = {
    "anonymize.md": clip,
    "body_reid.md": features_of_bodies,
    "detection.md": faces_in_frames,
    "identity.md": faces_in_frames,
    "memorization.md": three_sets_of_photos,
    "parrot.md": small_zip_of_faces,
    "reid.md": faces_in_frames,
    "reversal.md": small_zip_of_faces,
    "training.md": trained_run,
}


@pytest.mark.parametrize("page", [page for page in PAGES if page.name not in OF_THEIR_OWN], ids=lambda page: page.name)
def test_blocks_run_in_order(page: Path, tmp_path: Path, monkeypatch: Any, request: Any) -> None:
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    names: Names = {"__name__": "page"}
    runnable = [(line, block) for line, block in blocks(page) if not NOT_RUN.match(block)]
    if runnable and page.name in GIVEN:
        GIVEN[page.name](names, lambda: request.getfixturevalue("shared_data"))
    for line, block in runnable:
        if block.startswith(">>>"):
            example = doctest.DocTestParser().get_doctest(block, names, page.name, str(page), line)
            result = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(example)
            assert result.failed == 0
        else:  # lines of the page, so that a traceback shows them
            exec(compile("\n" * line + block, str(page), "exec"), names)


def test_pages_with_tests_of_their_own_have_them() -> None:
    for page, test in OF_THEIR_OWN.items():
        assert (Path(__file__).parent / test).is_file() or page not in {path.name for path in PAGES}


def test_there_are_examples_and_few_are_passed_over() -> None:
    found = [block for page in PAGES for _, block in blocks(page)]
    assert len(found) > 15
    assert sum(bool(NOT_RUN.match(block)) for block in found) <= 2
