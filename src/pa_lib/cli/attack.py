"""The work behind ``pa-evaluate attack=…``: photos of known people, a system, and an attacker who learns."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pa_lib.cli.build import build_module
from pa_lib.cli.compose import ConfigError, build
from pa_lib.data import FaceDataModule
from pa_lib.evaluation.attack import face_photos, run_attack
from pa_lib.metrics.base import hash_of_protocol
from pa_lib.reports.evaluation_record import Evaluation, MetricRecord

if TYPE_CHECKING:
    from pa_lib.cli.share import Tell


def attack(config: Mapping[str, Any], tell: Tell) -> Evaluation:
    """Let the attack of the config find out what the system leaves in the faces of the data.

    Raises:
        ConfigError: The data is not of faces.
        PaLibError: Too few people or photos, or a system that fails.
    """
    datamodule = build(config["data"])
    if not isinstance(datamodule, FaceDataModule):
        raise ConfigError(f"attack= needs photos of known people: data=faces, got a {type(datamodule).__name__}")
    attacker: Any = build(config["attack"])
    system = build_module(dict(config), config["_changed_"])
    photos = face_photos(datamodule)
    measured = run_attack(
        attacker,
        system,
        photos,
        seed=config["seed"],
        progress=lambda stage, done, total: tell(attacker.name, stage, done, total),
    )
    protocol = attacker.protocol()
    digest = hashlib.sha256(photos.frames.contiguous().numpy().tobytes())
    for part in (photos.masks, photos.people):
        digest.update(part.contiguous().numpy().tobytes())
    record = MetricRecord(
        attacker.name,
        "attack",
        protocol,
        hash_of_protocol(attacker.name, protocol),
        measured.values,
        tuple(measured.tracks),
    )
    settings = {name: value for name, value in config["data"].items() if name != "path"}
    return Evaluation(
        f"{type(attacker).__name__} on {type(system).__name__}",
        (record,),
        data={"settings": settings, "n_clips": len(photos), "sha256": digest.hexdigest()},
    )
