"""How fast do batches come to the device, and to what does that compare?

Rows of 256x256 in the page cache, batches of 256. The limits: a copy of one pinned batch to the device again and again
(which may stay in the processor's caches), of sixteen in turn, and of one while the Loader's threads fill batches that
nobody copies (the copy and the threads share the memory's bandwidth). Then the Loader: uint8 as it is, bfloat16
normalised on the device, both also from pinned rows (`pin_rows`), which the device copies itself; crops of 224 with
flips; float32 on the CPU; random resized crops of 224 with all threads and one, from raw rows and from JPEG rows whose
shorter side is 256. Then the kernels alone, in their share of the device's copy.

python benchmarks/bench_gpu_load.py [--device cuda] [--rounds 3] [--threads N] [--images 2048] [--batch 256]
"""

from __future__ import annotations

import itertools
import shutil
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from corpus import ROOT, jpegs
from harness import console, options_parser, report
from torch import Tensor

import largeds_native as lds
from largeds_native._internal.measure import Contender, ratio, take_turns
from largeds_native.loading.device_kernel import DeviceKernel
from largeds_native.loading.normalise import DeviceFormat, Normalise

SIDE = 224
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
NORMAL: dict[str, Any] = {"mean": MEAN, "std": STD, "dtype": torch.bfloat16}
CROP, PART = lds.Augment(resized_crop=SIDE, flip=0.5), lds.Augment(random_crop=SIDE, flip=0.5)
COPY, TURNS, BESIDE = "copy of a pinned batch", "copies of sixteen in turn", "copy of a batch beside busy threads"


def stores(images: int) -> tuple[Any, Any]:
    """Raw rows of 256x256, and JPEG rows with a shorter side of 256."""
    made = []
    for name, options in (("raw", {"resize": 256, "crop": 256}), ("jpeg", {"codec": "jpeg", "resize": 256})):
        path = ROOT / f"gpu-{name}-{images}.lds"
        shutil.rmtree(path, ignore_errors=True)
        made.append(lds.pack(jpegs(images), path, progress=False, **options))
    return made[0], made[1]


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def long(store: Any) -> dict[str, Any]:
    """Options for an epoch in which each sample comes a hundred times: as long as those of large data sets."""
    return {"shuffle": True, "indices": np.arange(100 * len(store)) % len(store)}


class Endless:
    """The batches of a loader, epoch after epoch."""

    def __init__(self, loader: Any) -> None:
        if not len(loader):
            raise SystemExit("more images than in a batch are needed")
        self.loader, self._batches = loader, self._all()

    def _all(self) -> Iterator[Any]:
        for epoch in itertools.count():
            self.loader.set_epoch(epoch)
            yield from self.loader

    def take(self, batches: int) -> int:
        return sum(len(images) for images, *_ in itertools.islice(self._batches, batches))


def copies(device: torch.device, batch: int, batches: int, different: int = 1) -> Callable[[], int]:
    images = torch.randint(0, 256, (batch, 3, 256, 256), dtype=torch.uint8)
    pinned = [images.pin_memory() if device.type == "cuda" else images.clone() for _ in range(different)]
    there = [torch.empty_like(images, device=device) for _ in range(2)]

    def run() -> int:
        for i in range(batches):
            there[i % 2].copy_(pinned[i % different], non_blocking=True)
        synchronize(device)
        return batches * batch

    return run


class Busy:
    """Threads that fill batches of a Loader in CPU memory."""

    def __init__(self, loader: Any) -> None:
        self._batches, self._end = Endless(loader), threading.Event()

    def start(self) -> None:
        self._end.clear()
        self._thread = threading.Thread(target=self._work)
        self._thread.start()

    def _work(self) -> None:
        while not self._end.is_set():
            self._batches.take(1)

    def stop(self) -> None:
        self._end.set()
        self._thread.join()


def loading(raw: Any, jpeg: Any, device: torch.device, options: Any) -> list[Contender]:
    batch, batches, threads = options.batch, options.batches, options.threads

    def of(name: str, store: Any, share: float = 1, **chosen: Any) -> Contender:
        kwargs: dict[str, Any] = {"device": device, "threads": threads, "drop_last": True} | long(store) | chosen
        endless, count = Endless(lds.Loader(store, batch, **kwargs)), max(int(batches * share), 2)

        def run() -> int:
            taken = endless.take(count)
            synchronize(device)
            return taken

        # what was filled while others ran is taken before
        return Contender(name, run, "ours", lambda: endless.take(8))

    uint8: dict[str, Any] = {"dtype": torch.uint8}
    busy = Busy(lds.Loader(raw, batch, threads=threads, **long(raw), **uint8))
    copy = copies(device, batch, batches)
    pinned_rows: dict[str, Any] = {"pin_rows": True}
    found = [
        Contender(COPY, copy, "reference"),
        Contender(TURNS, copies(device, batch, batches, 16), "reference"),
        Contender(BESIDE, copy, "reference", busy.start, busy.stop),
        of("uint8, in CPU memory", raw, **uint8 | {"device": "cpu"}),
        of("uint8", raw, **uint8),
        of("uint8, channels_last", raw, **uint8, channels_last=True),
        of("bfloat16, normalised", raw, **NORMAL),
        of("bfloat16, normalised, channels_last", raw, **NORMAL, channels_last=True),
        of("crops of 224 and flips", raw, **NORMAL, augment=PART, channels_last=True),
        of("float32, in CPU memory", raw, 0.5, **NORMAL | {"device": "cpu", "dtype": torch.float32}),
        of("random resized crops", raw, 0.3, **NORMAL, augment=CROP),
        of("random resized crops, one thread", raw, 0.04, **NORMAL | {"threads": 1}, augment=CROP),
        of("crops of JPEG rows", jpeg, 0.15, **NORMAL, augment=CROP),
        of("crops of JPEG rows, one thread", jpeg, 0.015, **NORMAL | {"threads": 1}, augment=CROP),
    ]
    if device.type == "cuda":
        found += [
            of("uint8, rows pinned", raw, **uint8 | pinned_rows),
            of("bfloat16, normalised, rows pinned", raw, **NORMAL | pinned_rows),
            of("crops of 224 and flips, rows pinned", raw, **NORMAL | pinned_rows, augment=PART, channels_last=True),
        ]
    return found


def normalising(device: torch.device, batch: int, batches: int) -> list[Contender]:
    """The kernels alone, from batch to batch so that nothing stays in the cache."""
    images = [torch.randint(0, 256, (batch, 3, 256, 256), dtype=torch.uint8, device=device) for _ in range(3)]
    scale = ([1 / 255 / std for std in STD], [-mean / std for mean, std in zip(MEAN, STD, strict=True)])
    multiply, add = (torch.tensor(values, device=device).view(1, 3, 1, 1) for values in scale)
    ours, plain = (Normalise(DeviceFormat(torch.bfloat16, *scale), device) for _ in range(2))
    plain._kernel = DeviceKernel("", torch.device("cpu"))  # torch's

    def of(name: str, work: Callable[[Tensor], Tensor], last: bool = False) -> Contender:
        inputs = [one.contiguous(memory_format=torch.channels_last) if last else one for one in images]

        def run() -> int:
            for i in range(batches):
                work(inputs[i % len(inputs)])
            synchronize(device)
            return batches * batch

        return Contender(name, run, "ours" if work is ours else "reference")

    return [
        of("copy on the device", Tensor.clone),
        of("our kernel", ours),
        of("our kernel, channels_last", ours, True),
        of("torch's addcmul in one pass", plain),
        of("torch's addcmul in one pass, channels_last", plain, True),
        of("in three passes", lambda one: torch.addcmul(add, one.float(), multiply).to(torch.bfloat16)),
    ]


def main() -> None:
    parser = options_parser(__doc__)
    parser.set_defaults(rounds=3)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--images", type=int, default=2048)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--batches", type=int, default=400, help="batches a round of the fastest contender (400)")
    options = parser.parse_args()
    device = torch.device(options.device)
    raw, jpeg = stores(options.images)
    with torch.inference_mode():
        # what was done is seen if the time runs out
        results = take_turns(loading(raw, jpeg, device, options), rounds=options.rounds, progress=print)
        facts = {"device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"}
        ours = [f"{one}{rows}" for one in ("uint8", "bfloat16, normalised") for rows in ("", ", rows pinned")]
        ratios = {one: ratio(results, one, COPY) for one in ours if one in {result.name for result in results}}
        for threads in ("random resized crops", "crops of JPEG rows"):
            ratios[f"{threads}: {options.threads} threads to one"] = ratio(results, threads, f"{threads}, one thread")
        report("gpu_load", f"Batches to {facts['device']}", results, relative_to=COPY, extra=facts | {"ratios": ratios})
        console.print({name: round(value, 3) for name, value in ratios.items()})
        kernels = take_turns(normalising(device, options.batch, options.batches), rounds=options.rounds)
        report("gpu_kernels", "uint8 to normalised bfloat16", kernels, relative_to="copy on the device", extra=facts)


if __name__ == "__main__":
    main()
