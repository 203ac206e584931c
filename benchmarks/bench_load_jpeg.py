"""How fast are random resized crops from JPEG rows, against libjpeg-turbo alone and peers?

Two corpora: JPEGs like ImageNet's as they are, and the same shrunk to a shorter side of 256 at quality 90. From the
page cache, random resized crop 224 and flip to uint8, batches of 256. The references are libjpeg-turbo with its own
Huffman decoder, from memory, with the same number of threads, discarding its rows: whole images, and the part that each
crop of the epoch needs. They are no limits, as largeds_native has a faster Huffman decoder. Peers do the same from the
same files.

With --photos, photographs of 12 megapixels: decode="scaled" beside "exact", with its PSNR.

python benchmarks/bench_load_jpeg.py [--rounds 5] [--threads N] [--images 1000] [--photos 0]
"""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from corpus import ROOT, files, jpegs, photos
from harness import console, options_parser, report

import largeds_native as lds
from largeds_native import _C
from largeds_native._internal.measure import Contender, ratio, take_turns
from largeds_native.profile import peers
from largeds_native.profile.bench.candidates import reason
from largeds_native.profile.bench.ffcv import jpeg_loader

BATCH, SIDE = 256, 224
TRAIN = lds.Augment(resized_crop=SIDE, flip=0.5)
VALIDATE = lds.Augment(resize=256, center_crop=SIDE)
WHOLE, PART, VALIDATION_PART = (f"libjpeg-turbo, {what}" for what in ("whole image", "the crop's part", "validation"))


def packed(name: str, folder: Path, **options: Any) -> Any:
    path = ROOT / f"{name}.jpeg.lds"
    shutil.rmtree(path, ignore_errors=True)
    return lds.pack(folder, path, codec="jpeg", progress=False, **options)


def boxes(store: Any, augment: lds.Augment) -> list[tuple[int, int, int, int]]:
    """What each sample of epoch 0 needs, in the store's order."""
    found = []
    for row, (height, width) in enumerate(store.sizes[:].tolist()):
        box, resized, part, *_ = _C.geometry(augment.core(), height, width, 0, 0, row)
        if part[2:] != resized[::-1]:  # a part of the resized image: the pixels that it depends on
            across, down = (box[2] - box[0]) / resized[1], (box[3] - box[1]) / resized[0]
            box = (
                max(int((part[0] - 1) * across), 0),
                max(int((part[1] - 1) * down), 0),
                min(int((part[2] + 1) * across) + 1, width),
                min(int((part[3] + 1) * down) + 1, height),
            )
        found.append(box)
    return found


def epoch(store: Any, threads: int, **options: Any) -> Callable[[], int]:
    """An epoch of a Loader in the store's order, which is that of the limits."""
    kwargs: dict[str, Any] = {"augment": TRAIN, "dtype": torch.uint8} | options
    loader = lds.Loader(store, BATCH, threads=threads, **kwargs)

    def run() -> int:
        loader.set_epoch(0)
        return sum(len(images) for images, *_ in loader)

    return run


def pillow_peer(store: Any, workers: int) -> Callable[[], int]:
    """torchvision's transforms on Pillow images, in a DataLoader."""
    from torchvision import transforms

    steps = [transforms.RandomResizedCrop(SIDE, antialias=True), transforms.RandomHorizontalFlip(), peers.PixelTensor()]
    loader = peers.loader(Files(store, transforms.Compose(steps)), workers, BATCH, shuffle=False)
    return lambda: sum(len(images) for images, _ in loader)


class Files(torch.utils.data.Dataset[Any]):
    """The rows of a store as Pillow images."""

    def __init__(self, store: Any, transform: Any) -> None:
        self.store, self.transform = store, transform

    def __len__(self) -> int:
        return len(self.store)

    def __getitem__(self, row: int) -> tuple[Any, int]:
        from PIL import Image

        return self.transform(Image.open(io.BytesIO(self.store.encoded(row))).convert("RGB")), row


def torchvision_peer(data: list[bytes], threads: int) -> Callable[[], int]:
    """torchvision.io.decode_jpeg and its tensor transforms, in threads of one process."""
    from concurrent.futures import ThreadPoolExecutor

    from torchvision.io import decode_jpeg
    from torchvision.transforms import v2

    transform = v2.Compose([v2.RandomResizedCrop(SIDE, antialias=True), v2.RandomHorizontalFlip()])

    def one(file: bytes) -> Any:
        torch.set_num_threads(1)
        return transform(decode_jpeg(torch.frombuffer(bytearray(file), dtype=torch.uint8)))

    def run() -> int:
        with ThreadPoolExecutor(threads) as pool:
            for low in range(0, len(data), BATCH):
                torch.stack(list(pool.map(one, data[low : low + BATCH])))
        return len(data)

    return run


def ffcv_peer(store: Any, threads: int, max_resolution: int, quality: int) -> Callable[[], int] | None:
    """FFCV's JPEG mode, as its documentation recommends it; None if it is not installed."""
    try:
        loader = jpeg_loader(store, BATCH, threads, SIDE, max_resolution, quality)
    except ImportError as error:
        console.print(f"not measured: FFCV: {reason(error)}")
        return None
    return lambda: sum(len(images) for images, _ in loader)


def contenders(store: Any, threads: int, ffcv: tuple[int, int]) -> list[Contender]:
    data = [store.encoded(row) for row in range(len(store))]
    whole = [(0, 0, width, height) for height, width in store.sizes[:].tolist()]
    train, validation = boxes(store, TRAIN), boxes(store, VALIDATE)

    def limit(part: list[tuple[int, int, int, int]]) -> int:
        _C.decode_boxes(data, part, threads)
        return len(data)

    floats = {"dtype": torch.float32, "mean": peers.MEAN, "std": peers.STD}
    runs = [
        Contender(WHOLE, lambda: limit(whole), "reference"),
        Contender(PART, lambda: limit(train), "reference"),
        Contender("Loader, uint8", epoch(store, threads), "ours"),
        Contender("Loader, float32 normalised", epoch(store, threads, **floats), "ours"),
        Contender("Loader, bicubic", epoch(store, threads, augment=bicubic()), "ours"),
        Contender("Loader, uint8, 1 thread", epoch(store, 1), "ours"),
        Contender(VALIDATION_PART, lambda: limit(validation), "reference"),
        Contender("Loader, validation", epoch(store, threads, augment=VALIDATE), "ours"),
        Contender("torchvision, threads", torchvision_peer(data, threads)),
        Contender("Pillow, DataLoader", pillow_peer(store, threads)),
    ]
    peer = ffcv_peer(store, threads, *ffcv)
    return [*runs, Contender("FFCV", peer)] if peer else runs


def bicubic() -> lds.Augment:
    return lds.Augment(resized_crop=SIDE, flip=0.5, interpolation="bicubic")


TARGETS = [
    ("Loader, uint8", PART, 1.0),
    ("Loader, float32 normalised", "Loader, uint8", 0.9),
    ("Loader, uint8", "Loader, uint8, 1 thread", 1.9),
    ("Loader, validation", VALIDATION_PART, 1.0),
]


def measure(
    name: str, store: Any, options: Any, ffcv: tuple[int, int], over_ffcv: float, more: Sequence[Contender] = ()
) -> None:
    runs = [*contenders(store, options.threads, ffcv), *more]
    # an epoch has four batches, and the first use of each of the ring's five slots costs more than filling it
    results = take_turns(runs, rounds=options.rounds, warmup=3)
    targets = list(TARGETS)
    if any(one.name == "FFCV" for one in results):
        targets.append(("Loader, uint8", "FFCV", over_ffcv))
    reached = [
        {"of": ours, "to": to, "at_least": least, "reached": round(ratio(results, ours, to), 3)}
        for ours, to, least in targets
    ]
    question = (
        f"Random resized crops of 224 from {len(store):,} JPEG rows, {store.row_bytes / 1000:.0f} kB each: {name}"
    )
    report(f"load_jpeg_{name}", question, results, relative_to=PART, extra={"targets": reached})
    for one in reached:
        console.print("{of} / {to}: {reached}, target {at_least}".format(**one))


def measure_photos(n: int, options: Any) -> None:
    store = packed("photo", photos(n))

    def run(decode: str) -> Contender:
        return Contender(f"Loader, {decode}", epoch(store, options.threads, decode=decode), "ours")

    results = take_turns([run("exact"), run("scaled")], rounds=options.rounds)
    exact, scaled = (
        torch.cat([x for x, *_ in lds.Loader(store, n, augment=TRAIN, dtype=torch.uint8, decode=decode)]).float()
        for decode in ("exact", "scaled")
    )
    psnr = float(10 * np.log10(255**2 / float((exact - scaled).square().mean())))
    question = f"Random resized crops of 224 from {n} photographs of 12 megapixels"
    report("load_jpeg_photos", question, results, relative_to="Loader, exact", extra={"psnr_of_scaled": round(psnr, 1)})
    console.print(f"PSNR of scaled to exact: {psnr:.1f} dB")


def main() -> None:
    parser = options_parser(__doc__)
    parser.add_argument("--images", type=int, default=1000, help="ImageNet-like files (1000)")
    parser.add_argument("--photos", type=int, default=0, help="photographs of 12 megapixels (0)")
    options = parser.parse_args()
    folder = jpegs(options.images)
    assert len(files(folder)) == options.images
    marked = Contender(
        "Loader, uint8, rows with restarts=True",
        epoch(packed("marked", folder, restarts=True), options.threads),
        "ours",
    )
    measure("imagenet", packed("imagenet", folder), options, (500, 90), 1.7, [marked])
    measure("shrunk", packed("shrunk", folder, resize=256, quality=90), options, (0, 90), 2.5)
    if options.photos:
        measure_photos(options.photos, options)


if __name__ == "__main__":
    main()
