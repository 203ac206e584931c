"""The usual way to the same batches: files, decoded by Pillow in DataLoader's workers in every epoch anew."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from torch.utils.data import DataLoader, Dataset, Sampler

from largeds_native.cli.doctor.course import Course, guarded, loop_of
from largeds_native.cli.doctor.findings import Findings, Loop, Part
from largeds_native.cli.doctor.work import Nothing, TrainingStep
from largeds_native.cli.peers import MEAN, STD

if TYPE_CHECKING:
    from largeds_native.cli.doctor.examine import Question

Size = int | tuple[int, int] | None


class Files(Dataset[Any]):
    """What torchvision's ImageFolder does for an image: open, convert, transform. `items`: paths or parts of files."""

    def __init__(self, items: Sequence[Any], labels: Sequence[int] | None, resize: Size, crop: Size) -> None:
        from torchvision import transforms

        steps: list[Any] = [] if resize is None else [transforms.Resize(resize)]
        steps += [] if crop is None else [transforms.CenterCrop(crop)]
        self.transform = transforms.Compose([*steps, transforms.ToTensor(), transforms.Normalize(MEAN, STD)])
        self.items, self.labels = items, labels

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, i: int) -> Any:
        from PIL import Image

        item = self.items[i]
        path, offset, size = item if isinstance(item, tuple) else (item, 0, -1)
        with open(path, "rb") as file:
            file.seek(offset)
            image = Image.open(file if size < 0 else io.BytesIO(file.read(size)))
            return self.transform(image.convert("RGB")), 0 if self.labels is None else int(self.labels[i])


@dataclass
class Endless(Sampler[int]):
    """Permutation after permutation: a loop over a sample that is as long as one over everything."""

    count: int

    def __iter__(self) -> Iterator[int]:
        random = np.random.default_rng(0)
        while True:
            yield from random.permutation(self.count).tolist()


def endless_loader(files: Files, batch_size: int, workers: int) -> DataLoader[Any]:
    """With two batches ahead for each worker, as is usual."""
    return DataLoader(files, batch_size, sampler=Endless(len(files)), num_workers=workers)


def loop_over_files(question: Question, files: Files, work: TrainingStep | None, findings: Findings) -> Loop:
    """DataLoader over the files, first alone, then with the step, on the same workers."""
    workers, images = question.threads, findings.images
    size = min(question.batch_size, max(1, len(files)))
    iterator: Iterator[Any] = iter(endless_loader(files, size, workers))
    # DataLoader has two batches ahead for each worker, and they come in bursts
    course = Course(question.share(3), 2 * workers, 2 * workers, workers)
    try:
        question.note("DataLoader alone, over the files")
        alone = course.steady(lambda: iterator, Nothing(), size, images)
        name = f"DataLoader over files, {workers} worker{'s' * (workers != 1)}"
        findings.parts.append(Part("workers", name, alone.images_per_s))
        if work is None:
            return loop_of("an epoch over the files", alone)
        question.note(f"{question.model} with DataLoader over the files")
        for _ in range(2 if not work.seconds else 1):  # what a model does once is no part of it
            guarded(lambda: work.timed(next(iterator)))
        course = replace(course, seconds=question.share(6)).beside(work, alone.batch_seconds)
        both = course.steady(lambda: iterator, work, size, images)
        seconds = alone.start_seconds + images / size * both.batch_seconds
        return Loop("an epoch today", both.images_per_s, alone.start_seconds, seconds, both.spread, both.waiting)
    finally:
        iterator = iter(())  # its workers end
