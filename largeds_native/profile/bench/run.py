"""Runs the stages of `largeds bench`, and returns their results as plain data."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from importlib.metadata import distributions
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from largeds_native._internal.measure import as_json, machine_facts
from largeds_native.profile.bench import load_jpeg_stage, load_stage, pack_stage, train_stage
from largeds_native.profile.bench.candidates import Progress, StageResult, compare
from largeds_native.profile.bench.image_set import ImageSet
from largeds_native.profile.bench.stage import Stage
from largeds_native.store import JpegStore

PEERS = (
    "torchvision",
    "torchcodec",
    "spdl",
    "opencv",
    "nvidia-dali",
    "ffcv",
    "litdata",
    "mosaicml-streaming",
    "webdataset",
    "h5py",
)


def run_stage(stage: Stage, images: ImageSet, model: str, rounds: int, progress: Progress) -> StageResult:
    with ExitStack() as stack:
        if stage is Stage.pack:
            return compare("pack", pack_stage.TITLE, pack_stage.candidates(images), rounds, progress)
        if stage is Stage.load and isinstance(images.store, JpegStore):
            return compare("load", load_jpeg_stage.TITLE, load_jpeg_stage.candidates(images, stack), rounds, progress)
        if stage is Stage.load:
            return compare("load", load_stage.TITLE, load_stage.candidates(images, stack), rounds, progress)
        if find_spec("torchvision") is None:
            why = "not installed (pip install 'largeds-native[demo]'), so there is no model to train"
            return StageResult("train", "train", [], {"torchvision": why})
        candidates = train_stage.candidates(images, model, stack)
        return compare("train", train_stage.title(model), candidates, rounds, progress)


def as_content(stages: Sequence[StageResult], images: ImageSet, source: Path | None) -> dict[str, Any]:
    """Everything as plain data: the machine, the versions of the peers, and every round of every stage."""
    questions = []
    for stage in stages:
        content = as_json(stage.title, stage.results, {})
        del content["machine"]
        questions.append({"name": stage.name} | content | {"missing": stage.missing})
    return {
        "source": str(source) if source else "the built-in corpus",
        "images": images.count,
        "threads": images.threads,
        "machine": machine_facts() | _peer_versions(),
        "questions": questions,
    }


def _peer_versions() -> dict[str, str]:
    found = {d.metadata["Name"]: d.version for d in distributions() if d.metadata["Name"]}
    return {name: version for name, version in sorted(found.items()) if name.lower().startswith(PEERS)}
