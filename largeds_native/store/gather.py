"""Gathers rows of a store into one batch tensor, in C++ threads without the GIL."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch

from largeds_native._internal.machine import MAX_THREADS, usable_threads
from largeds_native.errors import ArgumentError, RowIndexError
from largeds_native.store.metadata import Metadata, range_of
from largeds_native.transform import Augment
from largeds_native.transform.image_transform import integer

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from largeds_native import _C

FLOATS = {torch.float32: "float32", torch.float16: "float16", torch.bfloat16: "bfloat16"}
DTYPES = {torch.uint8: "uint8", torch.uint16: "uint16", torch.int16: "int16", **FLOATS}


class Gatherable(Protocol):
    """What this module needs of a `Store`; it can't import `Store`, which imports this module."""

    @property
    def path(self) -> Path: ...
    @property
    def metadata(self) -> Metadata: ...
    @property
    def rows(self) -> _C.RowSource: ...
    def reading(self, rows: Any) -> AbstractContextManager[None]: ...
    def read_spec(self, decode: str = "exact") -> _C.ReadSpec: ...
    def picture_rows(self, name: str) -> _C.RowSource: ...
    def picture_read_spec(self, name: str) -> _C.ReadSpec: ...


class BatchFormat:
    """The format of batches of a store: `.dtype`, `.image_shapes` by view, and the `_C.Gather` that fills them.

    dtype: of the batch; None is that of the store. Floats from integers are x / range, or (x / range - mean) / std,
    with the range 255 of uint8, 65535 of uint16, 32768 of int16. Stored floats are not changed without mean and std.
    Of a JPEG store, decode="scaled" reads images at a smaller scale where they are resized to at most half, and
    `skip_damaged` replaces a sample whose row can't be decoded by the next one among `candidates` (sorted row numbers;
    None: all). `pictures` are the fields whose pictures follow the images of each view.

    Raises ArgumentError for options that do not fit the store.
    """

    def __init__(
        self,
        store: Gatherable,
        *,
        dtype: torch.dtype | None = None,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        channels_last: bool = False,
        views: Sequence[Augment] = (Augment(),),
        variant: str = "cycle",
        decode: str = "exact",
        skip_damaged: bool = False,
        candidates: NDArray[np.int64] | None = None,
        pictures: Sequence[str] = (),
    ) -> None:
        from largeds_native import _C

        self.dtype = _batch_dtype(store, dtype, mean is not None or std is not None)
        self.channels_last = channels_last
        stored, channels = store.metadata, store.metadata.channels
        for view in views:
            _check_one_size(store, view)
        self.scale = multiply, add = _scale(stored.dtype, channels, mean, std)
        self.variants = stored.variants
        output = _C.OutputSpec(planar=not channels_last, dtype=DTYPES[self.dtype], multiply=multiply, add=add)
        self.gather = _C.Gather(
            [_C.Picture(store.rows, store.read_spec(decode), output), *(_picture(store, name) for name in pictures)],
            views=[view.core() for view in views],
            variants=stored.variants,
            variant_choice=variant,
            skip_damaged=skip_damaged,
            candidates=[] if candidates is None else candidates.tolist(),
        )
        self.image_shapes = self.gather.sample_shapes[:: 1 + len(pictures)]
        self.pictures = [stored.pictures[name] for name in pictures]
        self.picture_dtypes = [torch_dtype(spec.dtype) for spec in self.pictures]

    def empty(self, n: int) -> torch.Tensor:
        """An uninitialised batch of n images of the first view, (n, C, H, W)."""
        layout = torch.channels_last if self.channels_last else torch.contiguous_format
        return torch.empty((n, *self.image_shapes[0]), dtype=self.dtype, memory_format=layout)


def _picture(store: Gatherable, name: str) -> _C.Picture:
    """A picture is cut out as its image is, a mask by the nearest neighbour, and keeps its numbers."""
    from largeds_native import _C

    spec = store.metadata.pictures[name]
    output = _C.OutputSpec(dtype=spec.dtype.name, filter="nearest" if spec.is_mask else None, padding=spec.ignore or 0)
    return _C.Picture(store.picture_rows(name), store.picture_read_spec(name), output)


def _check_one_size(store: Gatherable, view: Augment) -> None:
    if not store.metadata.varies or view.fixes_size:
        return
    raise ArgumentError(
        f"augment: the images of {store.path} have many sizes, from {store.metadata.sizes} (height x width), and a "
        "batch has one: pass augment=Augment(resized_crop=224, flip=0.5) for training, or "
        "Augment(resize=256, center_crop=224) for validation"
    )


def _batch_dtype(store: Gatherable, dtype: torch.dtype | None, normalise: bool) -> torch.dtype:
    stored = torch_dtype(store.metadata.dtype)
    if dtype is None:
        return torch.float32 if normalise and stored not in FLOATS else stored
    if stored not in FLOATS:
        known = (stored, *FLOATS)
        if dtype not in known:
            expected = ", ".join(str(name) for name in known)
            raise ArgumentError(f"dtype: expected one of {expected} for images of {stored}, found {dtype!r}")
        if normalise and dtype is stored:
            raise ArgumentError(f"mean and std need a float dtype, found {dtype}")
        return dtype
    if normalise and store.metadata.normalized is not None:
        raise ArgumentError(
            f"mean and std: the images of {store.path} are floats already, which are not normalised again"
        )
    if dtype is not stored:
        raise ArgumentError(
            f"dtype: expected {stored}, as float images of {store.path} are not converted, found {dtype}"
        )
    return stored


def _scale(
    dtype: np.dtype[Any], channels: int, mean: Sequence[float] | None, std: Sequence[float] | None
) -> tuple[list[float], list[float]]:
    """(multiply, add) so that x * multiply + add = (x / range - mean) / std."""
    means, stds = _per_channel("mean", mean, channels, 0.0), _per_channel("std", std, channels, 1.0)
    if any(s <= 0 for s in stds):
        raise ArgumentError(f"std: expected numbers above 0, found {stds}")
    top = range_of(dtype)
    if top > 1:
        _refuse_units(means, stds, top)
    return [1 / (top * s) for s in stds], [-m / s for m, s in zip(means, stds, strict=True)]


def _per_channel(name: str, values: Sequence[float] | None, channels: int, default: float) -> list[float]:
    if values is None:
        return [default] * channels
    try:
        numbers = [float(value) for value in values]
    except (TypeError, ValueError):
        raise ArgumentError(f"{name}: expected {channels} numbers, one per channel, found {values!r}") from None
    if len(numbers) != channels or not np.isfinite(numbers).all():
        counted = "1 finite number" if channels == 1 else f"{channels} finite numbers"
        raise ArgumentError(f"{name}: expected {counted}, one per channel, found {numbers}")
    return numbers


def _refuse_units(means: list[float], stds: list[float], top: int) -> None:
    """Raises ArgumentError for numbers in 0-255 units, as for FFCV's NormalizeImage: they would ruin every image."""
    for name, values in (("mean", means), ("std", stds)):
        if any(value > 1 for value in values):
            divided = ", ".join(f"{value / top:.4g}" for value in values)
            raise ArgumentError(
                f"{name}: expected numbers in [0, 1] units, as for torchvision's Normalize, found {values}. "
                f"If these are in 0-{top} units, pass {name}=({divided})"
            )


def torch_dtype(dtype: np.dtype[Any]) -> torch.dtype:
    """TypeError for one that torch does not have."""
    return torch.from_numpy(np.empty(0, dtype)).dtype


def dtype_name(dtype: torch.dtype) -> str:
    """The core's name of a dtype: 'float32' for torch.float32."""
    return str(dtype).removeprefix("torch.")


def index_array(indices: ArrayLike | torch.Tensor) -> NDArray[np.int64]:
    """As one-dimensional int64; ArgumentError for anything but whole numbers."""
    try:
        array = np.asarray(indices)
    except ValueError:  # lists of different lengths
        raise ArgumentError(f"indices: expected one dimension of integers, found {indices!r:.100}") from None
    if array.size == 0:
        return np.empty(0, np.int64)
    if array.ndim != 1 or array.dtype.kind not in "iu":
        raise ArgumentError(f"indices: expected one dimension of integers, found {array.dtype} of shape {array.shape}")
    if array.dtype == np.uint64 and (array > np.iinfo(np.int64).max).any():
        raise ArgumentError(f"indices: expected numbers below 2**63, found {array.max()}")
    return array.astype(np.int64, copy=False)


def dataset_rows(indices: ArrayLike | torch.Tensor, n: int, path: Path) -> NDArray[np.int64]:
    """The rows of a dataset's items: -n .. n - 1 as 0 .. n - 1. Raises RowIndexError for an index outside."""
    rows = index_array(indices)
    outside = (rows < -n) | (rows >= n)
    if outside.any():
        raise RowIndexError(f"row {rows[outside][0]} is outside of the {n} rows of {path}")
    return np.where(rows < 0, rows + n, rows)


def default_threads() -> int:
    """All that this process may use; one in a DataLoader's worker, since several workers share the processors."""
    return 1 if torch.utils.data.get_worker_info() is not None else usable_threads()


_pools: dict[int, _C.Pool] = {}


def shared_pool(threads: int | None) -> _C.Pool:
    """The pool of `threads` threads of this process, created once and shared by all gathers."""
    from largeds_native import _C

    number = default_threads() if threads is None else integer("threads", threads, 1, MAX_THREADS)
    if number not in _pools:
        _pools[number] = _C.Pool(number)
    return _pools[number]


def gather(
    batches: BatchFormat, indices: Any, out: torch.Tensor | None, variant: int, threads: int | None
) -> tuple[torch.Tensor, ...]:
    """The images, and the pictures, masks without an axis of channels; see `Store.gather`."""
    chosen = index_array(indices)
    variant = integer("variant", variant, 0, batches.variants - 1)
    if out is None:
        out = batches.empty(len(chosen))
    shapes = batches.gather.sample_shapes[1:]
    pictures = [
        torch.empty((len(chosen), *shape), dtype=dtype)
        for shape, dtype in zip(shapes, batches.picture_dtypes, strict=True)
    ]
    batches.gather.run(chosen, 0, variant, [out, *pictures], shared_pool(threads))
    masks = (spec.is_mask for spec in batches.pictures)
    return (out, *(one.squeeze(1) if mask else one for one, mask in zip(pictures, masks, strict=True)))


def gather_pictures(store: Gatherable, name: str, indices: Any, resize: Any, crop: Any) -> NDArray[Any]:
    """Masks alone (n, H, W), or other pictures (n, C, H, W), resized and cropped as `Store.gather` does the images."""
    from largeds_native import _C

    view = Augment(center_crop=crop, resize=resize)
    _check_one_size(store, view)
    gathered = _C.Gather([_picture(store, name)], views=[view.core()])
    spec = store.metadata.pictures[name]
    out = np.empty((len(indices), *gathered.sample_shapes[0]), spec.dtype)
    rows = index_array(indices)
    with store.reading(rows):
        gathered.run(rows, 0, 0, [torch.from_numpy(out)], shared_pool(None))
    return out[:, 0] if spec.is_mask else out


def cached_format(
    formats: dict[Any, BatchFormat], store: Gatherable, *, mean: Any, std: Any, crop: Any, resize: Any, **kwargs: Any
) -> BatchFormat:
    """The format with these options from the cache `formats`."""
    for name, values in (("mean", mean), ("std", std)):
        if isinstance(values, (int, float)):
            raise ArgumentError(f"{name}: expected one number per channel, found {values!r}")
    mean, std = (None if values is None else tuple(values) for values in (mean, std))
    crop, resize = (tuple(size) if isinstance(size, list) else size for size in (crop, resize))  # a key must not change
    key = (mean, std, crop, resize, *kwargs.values())
    if key not in formats:
        view = Augment(center_crop=crop, resize=resize)
        formats[key] = BatchFormat(store, mean=mean, std=std, views=[view], **kwargs)
    return formats[key]
