"""How close is decoding + resizing to libjpeg-turbo alone, and to others?

Files in the page cache, short side 256, centre crop 224, bilinear, to uint8. Limits are libjpeg-turbo itself, in the
same threads, its rows thrown away: the whole image, the part that the crop needs, and that part with DCT scaling.

python benchmarks/bench_decode.py [--rounds 5] [--threads N] [--images 400] [--photos 8] [--peers all]
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from corpus import files, jpegs, photos
from harness import Contender, console, options_parser, report, take_turns
from PIL import Image

from largeds_native import _C, decode_batch

RESIZE, CROP = 256, 224


def core(paths: list[str], threads: int) -> dict[str, Callable[[], int]]:
    """Ours and the limits, on one preallocated array, as the packer uses them."""
    data: list[bytes | str] = [Path(path).read_bytes() for path in paths]
    exact, scaled = _C.RowSpec(), _C.RowSpec(scaled=True)
    out = np.zeros((len(paths), exact.row_bytes), np.uint8)

    def counted(results: list[tuple[str, str, int, int, str]]) -> int:
        assert all(status == "ok" for status, *_ in results), results
        return len(results)

    names: list[bytes | str] = list(paths)
    return {
        "libjpeg-turbo, whole image": lambda: counted(_C.decode_only(data, out, exact, threads, True)),
        "libjpeg-turbo, needed part": lambda: counted(_C.decode_only(data, out, exact, threads, False)),
        "libjpeg-turbo, needed part, DCT scaling": lambda: counted(_C.decode_only(data, out, scaled, threads, False)),
        "ours, exact": lambda: counted(_C.decode_to_rows(names, out, exact, threads)),
        "ours, scaled": lambda: counted(_C.decode_to_rows(names, out, scaled, threads)),
        "ours, exact, 1 thread": lambda: counted(_C.decode_to_rows(names, out, exact, 1)),
        "decode_batch, exact": lambda: len(decode_batch(paths, threads=threads)),
    }


def by_torchvision(path: str) -> None:
    from torchvision.io import ImageReadMode, decode_jpeg, read_file
    from torchvision.transforms.v2 import functional

    image = decode_jpeg(read_file(path), mode=ImageReadMode.RGB)
    functional.center_crop(functional.resize(image, [RESIZE], antialias=True), [CROP, CROP])


def by_opencv(path: str) -> None:
    import cv2

    image = cv2.imread(path, cv2.IMREAD_COLOR_RGB)
    height, width, _ = image.shape
    short = min(height, width)
    size = (RESIZE * width // short, RESIZE * height // short)
    image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    top, left = (size[1] - CROP) // 2, (size[0] - CROP) // 2
    np.ascontiguousarray(image[top : top + CROP, left : left + CROP])


class PillowFiles(torch.utils.data.Dataset[Any]):
    def __init__(self, paths: list[str]) -> None:
        self.paths = paths

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Any:
        from torchvision.transforms import functional

        image = Image.open(self.paths[index]).convert("RGB")
        image = functional.center_crop(functional.resize(image, [RESIZE]), [CROP, CROP])
        return np.array(image)


def peers(paths: list[str], threads: int) -> dict[str, Callable[[], int]]:
    def threaded(work: Callable[[str], None]) -> Callable[[], int]:
        def run() -> int:
            with ThreadPoolExecutor(threads) as pool:
                list(pool.map(work, paths))
            return len(paths)

        return run

    def loader() -> int:
        batches = torch.utils.data.DataLoader(PillowFiles(paths), batch_size=16, num_workers=threads)
        return sum(len(batch) for batch in batches)

    found = {"torchvision, threads": threaded(by_torchvision)}
    try:
        import cv2

        cv2.setNumThreads(1)
        found["OpenCV, threads"] = threaded(by_opencv)
    except ImportError:
        console.print("OpenCV is not installed: left out")
    return found | {"DataLoader + Pillow": loader}


def psnr(paths: list[str]) -> list[float]:
    """Of scaled against exact, in dB, sorted; images that are too small for DCT scaling are left out."""
    exact = decode_batch(paths).double()
    scaled = decode_batch(paths, decode="scaled").double()
    error = (exact - scaled).square().mean(dim=(1, 2, 3))
    return sorted(float(10 * torch.log10(255**2 / value)) for value in error if value > 0)


def main() -> None:
    parser = options_parser(__doc__)
    parser.add_argument("--images", type=int, default=400, help="ImageNet-like files (400)")
    parser.add_argument("--photos", type=int, default=8, help="12-megapixel files (8)")
    options = parser.parse_args()
    torch.set_num_threads(1)  # peers run one image a thread
    limits = {
        "imagenet": ("libjpeg-turbo, whole image", "ours, exact", 1.0),
        "photos": ("libjpeg-turbo, needed part", "ours, exact", 0.9),
    }
    for name, paths in (("imagenet", files(jpegs(options.images))), ("photos", files(photos(options.photos)))):
        own = core(paths, options.threads)
        core_names = set(own)
        runs = own | peers(paths, options.threads)
        contenders = [
            Contender(
                label, run, "limit" if label.startswith("libjpeg-turbo") else "ours" if label in core_names else "peer"
            )
            for label, run in runs.items()
        ]
        results = take_turns(contenders, rounds=options.rounds)
        limit, ours, target = limits[name]
        values = psnr(paths)
        extra = {
            "libraries": _C.codec_versions(),
            "psnr_scaled_db": {
                "images": len(values),
                "least": round(min(values, default=float("inf")), 2),
                "median": round(values[len(values) // 2], 2) if values else None,
            },
        }
        question = f"Decode to {CROP}x{CROP}: {name}"
        report(f"decode-{name}", question, results, relative_to=limit, of=ours, target=target, extra=extra)
        console.print(f"scaled against exact: {extra['psnr_scaled_db']} dB; {extra['libraries']}\n")


if __name__ == "__main__":
    main()
