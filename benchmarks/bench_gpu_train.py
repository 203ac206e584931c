"""Does training wait for data? ResNets in bfloat16, random resized crops of 224, batches of 256.

"model alone" trains on one batch that stays on the device. The Loader's batches come from raw rows of 256x256 and from
JPEG rows with a shorter side of 256; "pinned rows" are the raw ones, which the device copies itself, and crops and
flips without resizing. ImageFolder and DataLoader decode the same JPEG files with as many workers as there are threads;
what they have decoded before their turn is not counted. All take the same step by hand. Then the waits of our Trainer:
how often a step reads a value of the device, by torch's profiler.

python benchmarks/bench_gpu_train.py [--device cuda] [--models resnet18 resnet50] [--rounds 3] [--threads N] [--ours]
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import torch
from bench_gpu_load import MEAN, NORMAL, STD, Endless, long, stores, synchronize
from corpus import jpegs
from harness import RESULTS, console, options_parser, report
from torch import nn

import largeds_native as lds
from largeds_native._internal.measure import Contender, ratio, take_turns, write_json
from largeds_native.trainer import Callback

ALONE, RAW, JPEG, FOLDER = "model alone", "Loader, raw rows", "Loader, JPEG rows", "ImageFolder and DataLoader"
PINNED = "Loader, pinned rows"
WAITS = (
    "aten::item",
    "aten::_local_scalar_dense",
    "cudaStreamSynchronize",
    "cudaDeviceSynchronize",
    "cudaEventSynchronize",
)


def training(model: nn.Module, device: torch.device) -> Callable[[Any, Any], None]:
    """One step, by hand."""
    optimizer = torch.optim.SGD(model.parameters(), 0.01, momentum=0.9)
    loss = nn.CrossEntropyLoss()

    def step(images: Any, labels: Any) -> None:
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            value = loss(model(images), labels)
        value.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def folder_batches(options: Any, device: torch.device) -> Iterator[Any]:
    from torch.utils.data import DataLoader
    from torchvision import datasets, transforms

    crop = transforms.Compose(
        [
            transforms.RandomResizedCrop(options.side),
            transforms.RandomHorizontalFlip(),
            transforms.ToTensor(),
            transforms.Normalize(MEAN, STD),
        ]
    )
    loader = DataLoader(
        datasets.ImageFolder(str(jpegs(options.images)), crop), options.batch, shuffle=True, drop_last=True,
        num_workers=options.threads, prefetch_factor=1,
        pin_memory=device.type == "cuda", persistent_workers=True,
    )  # fmt: skip
    for _ in itertools.count():
        for pictures, labels in loader:
            yield (
                pictures.to(device, memory_format=torch.channels_last, non_blocking=True),
                labels.to(device, non_blocking=True),
            )


def loader_options(options: Any, device: torch.device) -> dict[str, Any]:
    """bfloat16 on a GPU; float32 on a CPU, which may be slow at bfloat16."""
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    crop = lds.Augment(resized_crop=options.side, flip=0.5)
    fixed: dict[str, Any] = {"device": device, "threads": options.threads, "augment": crop, "channels_last": True}
    return NORMAL | fixed | {"dtype": dtype}


def contenders(name: str, options: Any, device: torch.device, rows: tuple[Any, Any]) -> list[Contender]:
    import torchvision

    torch.manual_seed(0)
    model = getattr(torchvision.models, name)(num_classes=10).to(device, memory_format=torch.channels_last)
    step = training(model, device)
    kwargs = loader_options(options, device) | {"drop_last": True}
    loaders = [Endless(lds.Loader(store, options.batch, **kwargs, **long(store))) for store in rows]
    fixed = next(iter(loaders[0].loader))
    sources = {ALONE: itertools.repeat(fixed), RAW: loaders[0]._batches, JPEG: loaders[1]._batches}
    if device.type == "cuda":
        part = lds.Augment(random_crop=options.side, flip=0.5)
        pinned = lds.Loader(rows[0], options.batch, **kwargs | {"augment": part}, pin_rows=True, **long(rows[0]))
        sources[PINNED] = Endless(pinned)._batches
    if not options.ours:
        sources[FOLDER] = folder_batches(options, device)

    def of(contender: str, source: Iterator[Any]) -> Contender:
        steps = options.steps if contender != FOLDER else max(options.steps // 10, 2)

        def run() -> int:
            for images, labels in itertools.islice(source, steps):
                step(images, labels)
            synchronize(device)
            return int(steps * options.batch)

        def drain() -> None:
            for _ in range(options.threads):
                next(source)

        if contender == FOLDER:
            return Contender(contender, run, "peer", drain)
        return Contender(contender, run, "reference" if contender == ALONE else "ours")

    return [of(contender, source) for contender, source in sources.items()]


def waits(store: Any, options: Any, device: torch.device) -> dict[str, Any]:
    """What the profiler counts in the Trainer's steps, without the first ones."""
    import torchvision
    from torch.profiler import ProfilerActivity, profile

    found: dict[str, Any] = {}
    for accumulate in (1, 4):
        model = torchvision.models.resnet18(num_classes=10).to(device, memory_format=torch.channels_last)
        recorder = _Between(4, 4 + options.counted)
        batch = max(options.batch // 8, 2)
        samples = torch.arange((options.counted + 8) * batch * accumulate) % len(store)
        loader = lds.Loader(store, batch, **loader_options(options, device), indices=samples.tolist(), drop_last=True)
        trainer = lds.Trainer(
            model, torch.optim.SGD(model.parameters(), 0.01, momentum=0.9), nn.CrossEntropyLoss(),
            accumulate=accumulate, precision="bf16" if device.type == "cuda" else "fp32", progress=False,
            callbacks=[recorder],
        )  # fmt: skip
        activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if device.type == "cuda" else [])]
        recorder.profiler = profile(activities=activities)
        trainer.fit(loader, 1)
        counts = {one.key: one.count for one in recorder.profiler.key_averages() if one.key in WAITS}
        found[f"accumulate={accumulate}"] = counts
    return found


class _Between(Callback):
    """Runs a profiler from one step to another."""

    profiler: Any

    def __init__(self, first: int, last: int) -> None:
        self.first, self.last = first, last

    def on_step(self, trainer: Any, result: Any) -> None:
        if trainer.step == self.first:
            self.profiler.start()
        elif trainer.step == self.last:
            self.profiler.stop()


def main() -> None:
    parser = options_parser(__doc__)
    parser.set_defaults(rounds=3)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--models", nargs="+", default=["resnet18", "resnet50"])
    parser.add_argument("--images", type=int, default=2048)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--side", type=int, default=224, help="of the crops (224)")
    parser.add_argument("--counted", type=int, default=20, help="steps in which waits are counted (20)")
    parser.add_argument("--ours", action="store_true", help="without ImageFolder and DataLoader")
    parser.add_argument("--steps", type=int, default=60, help="steps a round (60)")
    options = parser.parse_args()
    device = torch.device(options.device)
    torch.backends.cudnn.benchmark = True
    rows = stores(options.images)
    counted = waits(rows[0], options, device)
    console.print(f"waits in {options.counted} steps of the Trainer:", counted)
    write_json(RESULTS / "gpu_waits.json", counted)
    for name in options.models:
        results = take_turns(contenders(name, options, device, rows), rounds=options.rounds)
        ratios = {one.name: ratio(results, one.name, ALONE) for one in results}
        report(f"gpu_{name}", f"Training {name}", results, relative_to=ALONE, extra={"ratios": ratios})


if __name__ == "__main__":
    main()
