"""The Python interface of the C++ core. It checks its arguments; the package wraps it, and defines the defaults."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from typing_extensions import Buffer

# ---- store: a shard of an array is (path, offset of the first row, number of rows) -------------------------------

class RowSource:
    """The rows of all shards as one sequence; files are mapped on first access."""

    def __len__(self) -> int: ...
    def will_need(self, indices: ArrayLike) -> None: ...
    def release(self, index: int) -> None:
        """Unmaps the files of the part that has this row, of which nobody may read a row meanwhile."""

class Rows(RowSource):
    """Rows of one size."""

    def __init__(self, shards: Sequence[tuple[str, int, int]], row_bytes: int, arriving: bool = False) -> None:
        """arriving: the files are not there yet; each is checked when it is mapped."""

    @property
    def row_bytes(self) -> int: ...
    def read(self, indices: ArrayLike) -> NDArray[np.uint8]: ...
    def mapped(self) -> list[tuple[int, int]]:
        """(address, bytes) of the memory in which each file is mapped, up to the end of its rows."""

    def addresses(self, indices: ArrayLike) -> NDArray[np.uintp]: ...

class LabelRows(Rows):
    """The labels of several stores, whose classes have other numbers together: csrc/store/label_rows.h."""

    def __init__(
        self,
        shards: Sequence[tuple[str, int, int]],
        row_bytes: int,
        signed: bool,
        parts: Sequence[tuple[int, Sequence[int]]],
        arriving: bool = False,
    ) -> None: ...

# paths of the images, offsets, sizes and orientations; the number of rows, and the bytes of the images
JpegShard = tuple[str, str, str, str, int, int]

class ConcatRows(RowSource):
    """Several sources one after another: csrc/store/concat_rows.h."""

    def __init__(self, parts: Sequence[RowSource]) -> None: ...

class EncodedRows(RowSource):
    """Rows that are JPEG files: csrc/store/encoded_rows.h."""

    def __init__(self, shards: Sequence[JpegShard], array_offset: int, arriving: bool = False) -> None: ...
    def read(self, index: int) -> bytes: ...
    def decode(self, index: int, spec: ReadSpec) -> NDArray[np.uint8]: ...

def hash_rows(buffer: Buffer, row_bytes: int, threads: int = 1) -> NDArray[np.uint64]: ...
def hash_file(file: tuple[str, int, int], row_bytes: int, threads: int = 1) -> NDArray[np.uint64]: ...
def hash_file_rows(path: str, offsets: ArrayLike, threads: int = 1) -> NDArray[np.uint64]: ...
def reserve(path: str, bytes: int) -> None: ...
def begin_write_back(descriptor: int, offset: int, bytes: int) -> None: ...

# ---- specs -----------------------------------------------------------------------------------------------------

class ImageLayout:
    """The memory layout of an image: csrc/convert/image_layout.h."""

    def __init__(
        self, *, channels: int, height: int, width: int, planar: bool = True, dtype: str = "uint8"
    ) -> None: ...
    @property
    def bytes(self) -> int: ...

class ReadSpec:
    """How the rows hold images: csrc/store/image_reader.h."""

    def __init__(
        self,
        images: ImageLayout,
        *,
        codec: str = "raw",
        scaled: bool = False,
        max_pixels: int = 0,
        parts: Sequence[ReadSpec] = (),
    ) -> None: ...

class AugmentSpec:
    """The random augmentation of each sample: csrc/transform/geometry.h."""

    def __init__(
        self,
        *,
        crop: str = "none",
        height: int = 0,
        width: int = 0,
        resize: Sequence[int] = (0, 0),
        padding: int = 0,
        scale: Sequence[float] = (0.08, 1.0),
        ratio: Sequence[float] = (3 / 4, 4 / 3),
        flip: float = 0.0,
        vertical_flip: float = 0.0,
        filter: str = "bilinear",
    ) -> None: ...
    def output_size(self, height: int, width: int) -> tuple[int, int]: ...

class OutputSpec:
    """The dtype, layout and scale of output samples: csrc/transform/output_spec.h."""

    def __init__(
        self,
        *,
        planar: bool = True,
        dtype: str = "float32",
        multiply: Sequence[float] = (),
        add: Sequence[float] = (),
        padding: float = 0.0,
        filter: str | None = None,
    ) -> None: ...

# ---- decode ----------------------------------------------------------------------------------------------------

def decode_image(
    data: bytes,
    *,
    channels: int = 3,
    exif_orientation: bool = True,
    keep_truncated: bool = False,
    max_pixels: int = ...,
    box: Sequence[int] | None = None,
    draft: Sequence[int] | None = None,
    mask: bool = False,
) -> NDArray[np.uint8]: ...
def decode_boxes(
    files: Sequence[bytes],
    boxes: Sequence[tuple[int, int, int, int]],
    threads: int,
    *,
    libjpeg: bool = True,
    scale: int = 1,
) -> None: ...
def image_info(data: bytes) -> tuple[str, int, int, int]: ...
def codec_versions() -> dict[str, str]: ...

class RowSpec:
    """The transform from an image to a row; csrc/packing/image_to_row.h explains sizes of 0."""

    def __init__(
        self,
        *,
        resize_h: int = 256,
        resize_w: int = 0,
        crop_h: int = 224,
        crop_w: int = 224,
        out_h: int = 224,
        out_w: int = 224,
        planar: bool = True,
        filter: str = "bilinear",
        antialias: bool = True,
        scaled: bool = False,
        channels: int = 3,
        exif_orientation: bool = True,
        keep_truncated: bool = False,
        max_pixels: int = ...,
        mask: bool = False,
    ) -> None: ...
    @property
    def row_bytes(self) -> int: ...
    def output_size(self, width: int, height: int) -> tuple[int, int]: ...

# ---- pack ------------------------------------------------------------------------------------------------------

PackItem = str | bytes | tuple[str, int, int] | NDArray[np.uint8]
ChannelSums = tuple[int, tuple[int, ...], tuple[int, ...]]  # values per channel; their sums; the sums of their squares

class Packer:
    """Packs images into rows of a file or of `out`, in its own threads, one job at a time: csrc/packing/packer.h."""

    def __init__(
        self,
        spec: RowSpec,
        threads: int,
        *,
        variants: int = 1,
        augment: AugmentSpec | None = None,
        seed: int = 0,
        table: bytes = b"",
        value_bytes: int = 1,
        jpeg_quality: int | None = None,
        restarts: bool = False,
        png: bool = False,
        values: str | None = None,
    ) -> None: ...
    @property
    def sample_bytes(self) -> int: ...
    def start(
        self,
        items: tuple[PackItem, ...],
        descriptor: int = -1,
        offset: int = 0,
        rows: ArrayLike | None = None,
        samples: ArrayLike | None = None,
        out: NDArray[np.uint8] | None = None,
    ) -> None: ...
    def wait(self, seconds: float) -> bool: ...
    @property
    def done(self) -> int: ...
    def cancel(self) -> None: ...
    def result(
        self,
    ) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.uint64], list[tuple[int, str, str]], ChannelSums]: ...
    def jpeg(self) -> dict[str, NDArray[Any]]: ...
    def clock(self) -> tuple[float, float, float, int]: ...

def decode_to_rows(
    sources: list[bytes | str], out: NDArray[np.uint8], spec: RowSpec, threads: int
) -> list[tuple[str, str, int, int]]: ...
def decode_only(
    sources: list[bytes | str], out: NDArray[np.uint8], spec: RowSpec, threads: int, whole: bool
) -> list[tuple[str, str, int, int]]: ...
def list_folder(path: str, extensions: Sequence[str]) -> tuple[bytes, int, list[bytes], bool]: ...
def channel_sums(rows: NDArray[np.uint8], channels: int, planar: bool) -> ChannelSums: ...
def insert_rows(descriptor: int, offset: int, lengths: ArrayLike, inserted: NDArray[np.uint8], source: int) -> None: ...
def close_gaps(descriptor: int, offset: int, row_bytes: int, kept: ArrayLike) -> None: ...

# ---- resize ----------------------------------------------------------------------------------------------------

def resize(
    image: NDArray[np.uint8],
    out_h: int,
    out_w: int,
    *,
    box: tuple[float, float, float, float] | None = None,
    crop: tuple[int, int, int, int] | None = None,
    filter: str = "bilinear",
    antialias: bool = True,
    planar: bool = False,
    planar_source: bool = False,
) -> NDArray[np.uint8]: ...
def simd() -> str: ...
def supported_simd() -> list[str]: ...

# ---- gather ----------------------------------------------------------------------------------------------------

class Pool:
    """Threads for loops of the core; they start on first use, and again in a forked child."""

    def __init__(self, threads: int) -> None: ...
    @property
    def threads(self) -> int: ...

class Picture:
    """One of the pictures of a sample, its image or a mask."""

    def __init__(self, rows: RowSource, read: ReadSpec, output: OutputSpec = ...) -> None: ...

class Gather:
    """Gathers rows of a store into a batch: csrc/loading/gather.h."""

    def __init__(
        self,
        pictures: Sequence[Picture],
        *,
        views: Sequence[AugmentSpec] = ...,
        variants: int = 1,
        variant_choice: str = "draw",
        skip_damaged: bool = False,
        candidates: Sequence[int] = (),
    ) -> None: ...
    def __len__(self) -> int: ...
    @property
    def sample_shapes(self) -> list[tuple[int, int, int]]: ...
    @property
    def sample_bytes(self) -> int: ...
    def run(self, indices: ArrayLike, seed: int, epoch: int, out: Sequence[torch.Tensor], pool: Pool) -> None: ...

def geometry(
    augment: AugmentSpec, height: int, width: int, seed: int, epoch: int, key: int, view: int = 0
) -> tuple[tuple[int, int, int, int], tuple[int, int], tuple[int, int, int, int], bool, bool]: ...
def boxes(
    augment: AugmentSpec, height: int, width: int, seed: int, epoch: int, keys: ArrayLike, view: int = 0
) -> NDArray[np.int32]:
    """(x, y, flip, vertical flip) of what each sample shows of its image, where nothing is resized."""

def permute(n: int, seed: int, epoch: int, start: int, count: int) -> NDArray[np.int64]: ...
def philox(counter: Sequence[int], key: Sequence[int]) -> list[int]: ...
def uniforms(seed: int, epoch: int, sample: int, count: int, view: int = 0) -> list[float]: ...
def color_uniforms(seed: int, epoch: int, view: int, samples: NDArray[np.int64], count: int) -> NDArray[np.float64]: ...

# ---- prefetch --------------------------------------------------------------------------------------------------

class Ring:
    """Memory for batches, which is reused only if no tensor refers to it."""

    def __init__(self, slot_bytes: int, slots: int, pinned: bool = False) -> None: ...
    def tensor(self, shape: Sequence[int], dtype: str) -> torch.Tensor: ...
    def stats(self) -> dict[str, int]: ...
    def trim(self) -> None: ...

class Prefetcher:
    """Fills submitted batches in threads without the GIL, and delivers them in order: (*parts, *fields) as tensors."""

    # at_once: how many batches are filled at the same time; 0: as many as keep the pool busy
    def __init__(
        self,
        gather: Gather,
        fields: Sequence[tuple[Rows, str, Sequence[int]]],
        ring: Ring,
        pool: Pool,
        at_once: int = 0,
    ) -> None: ...
    def submit(self, samples: NDArray[np.int64], keys: NDArray[np.int64] | None, seed: int, epoch: int) -> None: ...
    def next(self) -> tuple[torch.Tensor, ...]: ...
    def close(self) -> None: ...
    def stats(self) -> dict[str, Any]: ...

# ---- slots that processes share ----------------------------------------------------------------------------------

def slot_is_free(slot: torch.Tensor) -> bool: ...
def hold_slot(slot: torch.Tensor) -> None: ...
def slot_tensor(slot: torch.Tensor, offset: int, shape: Sequence[int], dtype: str) -> torch.Tensor: ...
