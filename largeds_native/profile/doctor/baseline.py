"""Measures the baseline: in every epoch, Pillow decodes the image files in DataLoader's workers."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from torch.utils.data import DataLoader, Dataset, Sampler

from largeds_native.profile.doctor.config import ProfileConfig
from largeds_native.profile.doctor.measurement_plan import MeasurementPlan, loop_result, with_short_errors
from largeds_native.profile.doctor.results import LoopResult, Part, ProfileResults
from largeds_native.profile.doctor.workload import NoWork, TrainingStep
from largeds_native.profile.peers import MEAN, STD
from largeds_native.transform.image_transform import Size


class ImageFiles(Dataset[Any]):
    """Loads images as torchvision's ImageFolder: open, convert, transform. `items`: paths, or (path, offset, length) of
    images inside of archives."""

    def __init__(self, items: Sequence[Any], labels: Sequence[int] | None, resize: Size, crop: Size) -> None:
        from torchvision import transforms

        steps: list[Any] = [] if resize is None else [transforms.Resize(resize)]
        steps += [] if crop is None else [transforms.CenterCrop(crop)]
        self.transform = transforms.Compose([*steps, transforms.ToTensor(), transforms.Normalize(MEAN, STD)])
        self.items, self.labels = items, labels

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> Any:
        from PIL import Image

        item = self.items[index]
        path, offset, size = item if isinstance(item, tuple) else (item, 0, -1)
        with open(path, "rb") as file:
            file.seek(offset)
            image = Image.open(file if size < 0 else io.BytesIO(file.read(size)))
            return self.transform(image.convert("RGB")), 0 if self.labels is None else int(self.labels[index])


class EndlessShuffle(Sampler[int]):
    """Yields endless permutations of `count` samples, so that a loop over a sample of the data does not end early."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __iter__(self) -> Iterator[int]:
        random = np.random.default_rng(0)
        while True:
            yield from random.permutation(self.count).tolist()


def measure_baseline(
    config: ProfileConfig, files: ImageFiles, step: TrainingStep | None, results: ProfileResults
) -> LoopResult:
    """Measures a DataLoader over the files, first alone, then with the training step, with the same workers."""
    workers, images = config.threads, results.images
    size = min(config.batch_size, max(1, len(files)))
    loader = DataLoader(files, size, sampler=EndlessShuffle(len(files)), num_workers=workers)
    iterator: Iterator[Any] = iter(loader)
    # DataLoader prefetches two batches for each worker, and they arrive in bursts
    plan = MeasurementPlan(config.scaled(3), 2 * workers, 2 * workers, workers)
    try:
        config.progress("DataLoader alone, over the files")
        alone = plan.measure(lambda: iterator, NoWork(), size, images)
        name = f"DataLoader over files, {workers} worker{'s' * (workers != 1)}"
        results.parts.append(Part("workers", name, alone.images_per_s))
        if step is None:
            return loop_result("an epoch over the files", alone)
        config.progress(f"{config.model} with DataLoader over the files")
        for _ in range(2 if not step.seconds else 1):  # the first steps allocate memory and select kernels
            with_short_errors(lambda: step.run_timed(next(iterator)))
        plan = replace(plan, seconds=config.scaled(6)).with_workload(step, alone.batch_seconds)
        both = plan.measure(lambda: iterator, step, size, images)
        seconds = alone.start_seconds + images / size * both.batch_seconds
        return LoopResult("an epoch today", both.images_per_s, alone.start_seconds, seconds, both.spread, both.waiting)
    finally:
        iterator = iter(())  # freeing DataLoader's iterator ends its workers
