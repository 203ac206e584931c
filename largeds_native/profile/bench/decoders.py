"""Fast decoders of other libraries, from files to 224x224 pixels: shorter side 256, centre crop, uint8, in threads.

Each takes (paths, threads) and returns a function that decodes all paths once; `keep(i, image)` receives the image of
path i, (H, W, C). Each imports its library when it is called, and raises ImportError if it is not installed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

RESIZE, CROP = 256, 224
Run = Callable[[], int]
Keep = Callable[[int, Any], object]
# on the CPU, and without prefetching: a round must not start with batches that were made during other rounds
NO_PREFETCH: dict[str, Any] = {"device_id": None, "exec_async": False, "exec_pipelined": False}


def drop(i: int, image: Any) -> None:
    """Discards the image, to measure decoding alone."""


def threaded(work: Callable[[str], Any], paths: Sequence[str], threads: int, keep: Keep = drop) -> Run:
    """Decodes images in a thread pool, one image per thread at a time."""

    def run() -> int:
        with ThreadPoolExecutor(threads) as pool:
            return sum(1 for _ in pool.map(lambda i: keep(i, work(paths[i])), range(len(paths))))

    return run


def to_rows(decoder: Callable[..., Run], paths: Sequence[str], threads: int, out: Path) -> int:
    """Writes the images of a decoder as rows (H, W, C) of a new .npy file."""
    rows = np.lib.format.open_memmap(out, "w+", np.uint8, (len(paths), CROP, CROP, 3))
    decoder(paths, threads, rows.__setitem__)()
    rows.flush()
    return len(paths)


def torchvision(paths: Sequence[str], threads: int, keep: Keep = drop) -> Run:
    """torchvision's C++ decoder, and its resize of tensors."""
    from torchvision.io import ImageReadMode, decode_image, read_file

    return _as_tensors(lambda path: decode_image(read_file(path), mode=ImageReadMode.RGB), paths, threads, keep)


def torchcodec(paths: Sequence[str], threads: int, keep: Keep = drop) -> Run:
    """torchcodec's decoder of images, and torchvision's resize of tensors."""
    torchcodec: Any = import_module("torchcodec.decoders")
    return _as_tensors(torchcodec.decode_image, paths, threads, keep)


def _as_tensors(decode: Callable[[str], Any], paths: Sequence[str], threads: int, keep: Keep) -> Run:
    import torch
    from torchvision.transforms.v2 import functional

    def one(path: str) -> Any:
        image = functional.resize(decode(path), [RESIZE], antialias=True)
        return functional.center_crop(image, [CROP, CROP]).permute(1, 2, 0)

    run = threaded(one, paths, threads, keep)

    def one_thread_each() -> int:
        before = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            return run()
        finally:
            torch.set_num_threads(before)

    return one_thread_each


def opencv_image(path: str) -> Any:
    """Decodes one image by OpenCV, with INTER_AREA, as its bilinear resize has no antialiasing."""
    cv2: Any = import_module("cv2")
    image = cv2.imread(path, cv2.IMREAD_COLOR_RGB)
    height, width, _ = image.shape
    short = min(height, width)
    size = (RESIZE * width // short, RESIZE * height // short)
    image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    top, left = (size[1] - CROP) // 2, (size[0] - CROP) // 2
    return np.ascontiguousarray(image[top : top + CROP, left : left + CROP])


def opencv(paths: Sequence[str], threads: int, keep: Keep = drop) -> Run:
    cv2: Any = import_module("cv2")
    cv2.setNumThreads(1)  # our thread pool runs one image per thread
    return threaded(opencv_image, paths, threads, keep)


def spdl(paths: Sequence[str], threads: int, keep: Keep = drop) -> Run:
    """SPDL, whose decoder and resize are FFmpeg's."""
    io: Any = import_module("spdl.io")
    shape = f"scale=w={RESIZE}:h={RESIZE}:force_original_aspect_ratio=increase:flags=bilinear,crop={CROP}:{CROP}"

    def one(path: str) -> Any:
        frames = io.decode_packets(io.demux_image(path), filter_desc=f"{shape},format=pix_fmts=rgb24")
        return io.to_numpy(io.convert_frames(frames))

    one(paths[0])  # raises RuntimeError without FFmpeg's libraries
    return threaded(one, paths, threads, keep)


def dali_rows(paths: Sequence[str], threads: int, keep: Keep = drop) -> Run:
    dali: Any = import_module("nvidia.dali")
    fn, types = dali.fn, dali.types

    def images() -> Any:
        encoded, _ = fn.readers.file(files=list(paths), name="files", pad_last_batch=False)
        image = fn.decoders.image(encoded, device="cpu", output_type=types.RGB)
        image = fn.resize(image, resize_shorter=RESIZE, interp_type=types.INTERP_TRIANGULAR)
        return fn.crop(image, crop=(CROP, CROP))

    pipeline = dali.pipeline_def(batch_size=min(32, len(paths)), num_threads=threads, **NO_PREFETCH)(images)()
    pipeline.build()

    def run() -> int:
        done = 0
        while done < len(paths):
            (batch,) = pipeline.run()
            for image in batch if keep is not drop else ():
                keep(done % len(paths), np.asarray(image))
                done += 1
            done += len(batch) if keep is drop else 0
        return done

    return run


def dali_batches(folder: str, batch: int, threads: int, mean: Sequence[float], std: Sequence[float]) -> Run:
    """An epoch of normalised float32 batches from a class-per-folder tree, shuffled."""
    dali: Any = import_module("nvidia.dali")
    fn, types = dali.fn, dali.types

    def images() -> Any:
        encoded, label = fn.readers.file(file_root=folder, random_shuffle=True, name="files")
        image = fn.decoders.image(encoded, device="cpu", output_type=types.RGB)
        image = fn.resize(image, resize_shorter=RESIZE, interp_type=types.INTERP_TRIANGULAR)
        scale = {"mean": [255 * value for value in mean], "std": [255 * value for value in std]}
        return fn.crop_mirror_normalize(image, crop=(CROP, CROP), dtype=types.FLOAT, **scale), label

    pipeline = dali.pipeline_def(batch_size=batch, num_threads=threads, **NO_PREFETCH)(images)()
    pipeline.build()
    size = pipeline.epoch_size("files")

    def run() -> int:
        done = 0
        while done < size:
            pictures, _ = pipeline.run()
            done += len(pictures)
        return done

    return run
