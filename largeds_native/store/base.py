"""The interface of all stores: a sequence of images with fields."""

from __future__ import annotations

import itertools
import operator
import os
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from largeds_native._internal.arrays import Array
from largeds_native._internal.registry import registered
from largeds_native.errors import ArgumentError, RowIndexError, StoreError
from largeds_native.store import display
from largeds_native.store.concat_array import ConcatArray, row_numbers
from largeds_native.store.format.statistics import mean_std, sums_of_files, wide_mean_std
from largeds_native.store.image_sequence import no_array
from largeds_native.store.metadata import MeanStd, Metadata

if TYPE_CHECKING:
    import torch
    from numpy.typing import ArrayLike
    from typing_extensions import Self

    from largeds_native import _C
    from largeds_native.store.gather import BatchFormat

IMPORT_HINT = "To convert it to a store, use largeds_native.from_hdf5 or largeds_native.pack"


def check_decode(decode: str) -> None:
    """Raises ArgumentError unless it is a way to decode JPEG rows."""
    if decode not in ("exact", "scaled"):
        raise ArgumentError(f"decode: expected 'exact' or 'scaled', found {decode!r}")


def check_local(store: Store, what: str) -> None:
    """Raises ArgumentError for a store whose files are not all on this machine."""
    if store.arriving:
        raise ArgumentError(
            f"{store.location} is in object storage, and {what} needs a local copy: largeds_native.pull(url, folder)"
        )


class RowFile(NamedTuple):
    """A file that holds `rows` consecutive rows of a store, from byte `offset` on."""

    path: Path
    offset: int
    rows: int


class Store(ABC):
    """N images with their fields, mapped from disk. `largeds_native.open(path)` and `pack` return one.

    `len(store)` is N. `store[i]` is (image i, its label or None), numpy arrays of `.dtype` with the dimensions of
    `.layout`, (C, H, W) or (H, W, C); raw rows are views of the mapped file, JPEG rows are decoded. A slice, row
    numbers or booleans give (images, labels). `store["label"]` is the array of a field's N values. `.images` is an
    array-like (N, *shape), or (N, variants, *shape) if each image was packed in several variants; where JPEG rows have
    many sizes, a sequence of arrays. `np.asarray(store)` is all images, and iterating over the store yields (image,
    label). It may be used from several threads and in forked workers, and pickled (by path).

    Raises RowIndexError for a row outside of the store, StoreError for a field that it does not have.
    """

    # An implementation defines where its rows are (`files`, `_map`), a hash of its contents (`identity`), and how it is
    # opened again (`__reduce__`).

    def __init__(self, path: Path, metadata: Metadata) -> None:
        self.path = path
        self._metadata = metadata
        self._parts: dict[tuple[str, int], Array] = {}  # (name, index of the file) -> the file, mapped
        self._arrays: dict[str, Array | ConcatArray] = {}
        self._rows: _C.RowSource | None = None
        self._formats: dict[Any, BatchFormat] = {}  # by the options of `gather`
        self._kept_rows: dict[str, _C.Rows] = {}  # of fields, where files arrive later

    arriving = False  # whether files are fetched when they are first used

    # ---- defined by each implementation ------------------------------------------------------------------------
    @property
    @abstractmethod
    def identity(self) -> str:
        """A short hash, equal for two stores only if their contents and options are equal."""

    @abstractmethod
    def files(self, name: str) -> list[RowFile]:
        """The files with the rows of "images" or of a field, in order."""

    @abstractmethod
    def _map(self, name: str, part: int) -> Array:
        """The rows in `files(name)[part]`, mapped read-only."""

    @abstractmethod
    def __reduce__(self) -> tuple[Any, ...]: ...

    # ---- as a sequence ----------------------------------------------------------------------------------------
    def __len__(self) -> int:
        return self._metadata.rows

    def __repr__(self) -> str:
        return f"<Store {self.location!r}: {'; '.join(self.summary())}>"

    def _repr_html_(self) -> str:
        """For notebooks: the summary, and a few images spread over the store (only the first variant of each)."""
        figures = []
        for row in display.rows_to_show(len(self)):
            image, label = self[row]
            picture = display.picture_of(image[0] if self.variants > 1 else image, self.layout, self.mean, self.std)
            figures.append((row, picture, display.caption(label, self.classes)))
        return display.as_html(self.location, self.summary(), figures)

    @property
    def location(self) -> str:
        """The path, or the URL, for people."""
        return str(self.path)

    def __contains__(self, name: object) -> bool:
        """Whether the store has this field, so that `store[name]` works. Images are not searched."""
        return name in self.fields

    def __iter__(self) -> Iterator[tuple[Array, Any]]:
        """Yields (image, label or None) of each row, read-only."""
        labels = self.field("label") if "label" in self.fields else itertools.repeat(None, len(self))
        return zip(self.images, labels, strict=True)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        """The images, (N, *shape). Several shards are always copied, so copy=False raises ValueError for them."""
        if self.metadata.varies:
            raise no_array(self.path, self.metadata)
        if isinstance(self.images, ConcatArray):
            return self.images.__array__(dtype, copy)
        mapped = np.asarray(self.images)
        if copy is False and dtype is not None and mapped.dtype != dtype:
            raise ValueError(f"{mapped.dtype} images can't be an array of {np.dtype(dtype)} without a copy")
        return np.array(mapped, dtype) if copy else np.asarray(mapped, dtype)

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, str):
            return self.field(key)
        rows = self._rows_of(key)
        return self.images[rows], (self.field("label")[rows] if "label" in self.fields else None)

    def _rows_of(self, key: Any) -> Any:
        """The rows that `key` selects, checked: a row number, a slice, or an array of row numbers."""
        if isinstance(key, slice):
            return key
        if isinstance(key, (list, range)) or (not isinstance(key, tuple) and np.ndim(key) > 0):
            return row_numbers(key, len(self))
        if not hasattr(key, "__index__") or isinstance(key, bool):
            expected = "a row number, a slice, row numbers, booleans, or a field's name"
            raise TypeError(f"expected {expected}, found {type(key).__name__}")
        row = operator.index(key)
        if not -len(self) <= row < len(self):
            raise RowIndexError(f"row {row} is outside of the {len(self)} rows of {self.path}")
        return row

    # ---- arrays ------------------------------------------------------------------------------------------------
    @property
    def images(self) -> Array | ConcatArray:
        """All images, (N, *shape), read-only, as a `np.memmap` or an array-like that concatenates the shards; of a JPEG
        store, a sequence that decodes the rows that are asked for."""
        return self._array("images")

    def field(self, name: str) -> Array | ConcatArray:
        """A field's N values, read-only, as `store[name]`. Raises StoreError if the store has no such field."""
        self._check_field(name)
        return self._array(name)

    def _check_field(self, name: str) -> None:
        if name not in self._metadata.fields:
            found = ", ".join(self.fields) or "none"
            raise StoreError(f"{self.path} has no field {name!r}; its fields are: {found}")

    def part(self, name: str, part: int) -> Array:
        """The rows of "images" or of a field in one of its `files`, mapped read-only."""
        if (name, part) not in self._parts:
            self._parts[name, part] = self._map(name, part)
        return self._parts[name, part]

    def _array(self, name: str) -> Array | ConcatArray:
        if name not in self._arrays:
            rows, spec = [file.rows for file in self.files(name)], self._metadata.array_spec(name)
            if len(rows) == 1:
                self._arrays[name] = self.part(name, 0)
            else:
                self._arrays[name] = ConcatArray(rows, spec.shape, spec.dtype, partial(self.part, name))
        return self._arrays[name]

    @property
    def rows(self) -> _C.RowSource:
        """The images as rows of bytes for the C++ core: image i's variant v is row i * variants + v."""
        if self._rows is None:
            self._rows = self._core_rows("images", self.row_bytes, self.variants)
        return self._rows

    def read_spec(self, decode: str = "exact") -> _C.ReadSpec:
        """How the C++ core reads the images in `rows`."""
        from largeds_native import _C

        check_decode(decode)
        if decode != "exact":
            raise ArgumentError(
                f"decode={decode!r}: {self.path} has raw rows, which are not decoded; it is for JPEG rows"
            )
        height, width = self.image_size
        planar, dtype = self.layout == "CHW", self.dtype.name
        return _C.ReadSpec(
            _C.ImageLayout(channels=self.channels, height=height, width=width, planar=planar, dtype=dtype)
        )

    def field_rows(self, name: str) -> _C.Rows:
        """A field as rows of bytes for the C++ core."""
        self._check_field(name)
        if name in self._kept_rows:
            return self._kept_rows[name]
        spec = self._metadata.fields[name]
        rows = self._core_rows(name, spec.dtype.itemsize * int(np.prod(spec.shape, dtype=np.int64)), 1)
        self.keep_readable(rows, name, 0)
        if self.arriving:
            self._kept_rows[name] = rows
        return rows

    def keep_readable(self, rows: _C.Rows, name: str, first: int) -> None:  # noqa: B027
        """For a store whose files end with it: keeps it alive as long as `rows`, whose row `first` is its first."""

    def reading(self, rows: Any) -> AbstractContextManager[None]:
        """While the block runs, the files of these rows (an array of row numbers in the store) are there."""
        return nullcontext()

    @property
    def shard_rows(self) -> list[int]:
        """The number of rows in each shard, or file, of the store."""
        return [file.rows for file in self.files("images")]

    def picture_rows(self, name: str) -> _C.RowSource:
        """The rows of a picture for the C++ core."""
        return self.field_rows(name)

    def picture_read_spec(self, name: str) -> _C.ReadSpec:
        """How the C++ core reads the pictures in `picture_rows`."""
        from largeds_native import _C

        spec = self._metadata.pictures[name]
        height, width = spec.shape[-2:]
        channels = spec.values.channels
        return _C.ReadSpec(_C.ImageLayout(channels=channels, height=height, width=width, dtype=spec.dtype.name))

    def _core_rows(self, name: str, row_bytes: int, rows_each: int) -> _C.Rows:
        from largeds_native import _C

        files = [(str(f.path), f.offset, f.rows * rows_each) for f in self.files(name) if f.rows]
        return _C.Rows(files, row_bytes, self.arriving)

    # ---- operations --------------------------------------------------------------------------------------------
    def to_hdf5(self, path: str | os.PathLike[str], **options: Any) -> Path:
        """Writes one HDF5 file with the datasets `data` and `labels`; see `largeds_native.interchange.export_hdf5`."""
        written: Path = registered("export_hdf5")(self, path, **options)  # interchange is a higher module
        return written

    def gather(
        self,
        indices: ArrayLike | torch.Tensor,
        out: torch.Tensor | None = None,
        *,
        dtype: torch.dtype | None = None,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        channels_last: bool = False,
        crop: int | tuple[int, int] | None = None,
        resize: int | tuple[int, int] | None = None,
        variant: int = 0,
        threads: int | None = None,
        fields: Sequence[str] | str | None = None,
    ) -> Any:
        """The images with these row numbers as one tensor (n, C, H, W), for any layout of the store.

        indices: n integers in [0, len(store)), in any order, also repeated.
        out: a tensor that is filled and returned: on the CPU, pinned or not, of this shape, dtype and layout.
        dtype: torch.float32, float16 or bfloat16, or the store's own; by default its own, or float32 with mean and std.
            Floats from uint8 are x / 255, or (x / 255 - mean) / std, as by ToTensor and Normalize; from uint16 it is
            x / 65535, from int16 x / 32768. Stored floats keep their dtype, and are not changed without mean and std.
        channels_last: in torch.channels_last memory format.
        crop: a centre crop, a side or (height, width).
        resize: the size to which images are resized before that: the shorter side, or (height, width). Images of many
            sizes need it.
        variant: number of the variant, below `store.variants`.
        threads: by default all that the process may use, and one in a DataLoader's worker.
        fields: names of fields; the result is then the tuple (images, *fields), each field a tensor (n, ...). Masks (n,
            H, W) and other pictures (n, C, H, W) are resized and cropped as the images are, masks by the nearest pixel.

        Raises RowIndexError for an index outside of the store, and ArgumentError for an invalid `out` or option, both
        before anything is written.
        """
        from largeds_native.store import gather as gathering  # here, since it loads torch

        if crop is None and resize is None and self.metadata.varies:
            raise ArgumentError(f"resize: the images of {self.path} have many sizes: pass resize=256, crop=224")
        if dtype is None and out is not None:
            dtype = out.dtype
        names = (fields,) if isinstance(fields, str) else fields or ()
        if not isinstance(names, Iterable):
            raise ArgumentError(f"fields: expected names of fields, as ('label',), found {fields!r}")
        for name in names:
            self._check_field(name)
        pictures = tuple(name for name in names if name in self.metadata.pictures)
        batches = gathering.cached_format(
            self._formats,
            self,
            dtype=dtype,
            mean=mean,
            std=std,
            channels_last=channels_last,
            crop=crop,
            resize=resize,
            pictures=pictures,
        )
        with self.reading(gathering.index_array(indices)):
            images, *found = gathering.gather(batches, indices, out, variant, threads)
        if fields is None:
            return images
        values = dict(zip(pictures, found, strict=True))
        rows = gathering.index_array(indices)
        return (images, *(values[name] if name in values else self._values(name, rows) for name in names))

    def _values(self, name: str, rows: Array) -> torch.Tensor:
        import torch

        return torch.as_tensor(np.ascontiguousarray(self.field(name)[rows]))

    # ---- life ------------------------------------------------------------------------------------------------
    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Releases the mappings (each when the last array that uses it is freed). The store can still be used."""
        self._parts.clear()
        self._arrays.clear()
        self._formats.clear()
        self._rows = None

    # ---- metadata ----------------------------------------------------------------------------------------------
    @property
    def metadata(self) -> Metadata:
        """All of the following properties in one object."""
        return self._metadata

    def summary(self) -> list[str]:
        """The contents of the store in short phrases; the last one is the size."""
        return self._metadata.facts()

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of one image; height and width are 0 where JPEG rows have many sizes."""
        return self._metadata.shape

    @property
    def layout(self) -> str:
        """The order of the dimensions of a stored image, "CHW" or "HWC"."""
        return self._metadata.layout

    @property
    def dtype(self) -> np.dtype[Any]:
        """Dtype of the images: uint8, uint16, int16, float16 or float32, little-endian."""
        return self._metadata.dtype

    @property
    def channels(self) -> int:
        """1 (grey), 3 (RGB), or another number up to 32."""
        return self._metadata.channels

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width of an image, in pixels. Raises StoreError where JPEG rows have many sizes: see `sizes`."""
        return self._metadata.image_size

    @property
    def sizes(self) -> Array:
        """Height and width of each image, (N, 2), read-only."""
        return np.broadcast_to(np.array(self.image_size, np.int64), (len(self), 2))

    @property
    def classes(self) -> list[str]:
        """Names of the classes, in the order of the label's numbers; empty if there are none."""
        return list(self._metadata.classes)

    @property
    def fields(self) -> tuple[str, ...]:
        """Names of the fields, in the order of the manifest; labels are the field "label"."""
        return tuple(self._metadata.fields)

    @property
    def mean(self) -> tuple[float, ...] | None:
        """The mean that was subtracted from float images before storing them, in [0, 1] units, or None."""
        return self._metadata.normalized and self._metadata.normalized[0]

    @property
    def std(self) -> tuple[float, ...] | None:
        """The standard deviation by which float images were divided before storing them, in [0, 1] units, or None."""
        return self._metadata.normalized and self._metadata.normalized[1]

    @cached_property
    def statistics(self) -> MeanStd:
        """(mean, std) per channel over all images, before normalisation, in the units of the loader's mean and std:
        x / 255 of uint8, x / 65535 of uint16, x / 32768 of int16, and floats as they are. Exact for integers.

        A pack of uint8 computes them while it runs. For other stores, the first call reads all images once, and of JPEG
        rows at most 10,000; of a store in object storage, it fetches their shards. Raises StoreError for a store
        without images.
        """
        known = self._metadata.statistics
        if known is not None:
            return known
        parts = (self.part("images", i) for i in range(len(self.files("images"))))
        planar = self.layout == "CHW"
        if self.dtype == np.uint8 and self.channels <= 4:
            found = mean_std(sums_of_files(parts, self.row_bytes, self.channels, planar), self.channels)
        else:
            found = wide_mean_std(parts, self.channels, planar)
        if found is None:
            raise StoreError(f"{self.path} has no statistics: it has no images")
        return found

    @property
    def variants(self) -> int:
        """Number of stored augmented variants of each image; 1 if the images are not augmented."""
        return self._metadata.variants

    @property
    def nbytes(self) -> int:
        """Bytes of all images, without fields."""
        sizes = self._metadata.sizes
        return self._metadata.rows * self._metadata.sample_bytes if sizes is None else sizes.bytes

    @property
    def row_bytes(self) -> int:
        """Bytes of one image (of one variant); of JPEG rows, on average."""
        if self._metadata.sizes is None:
            return self._metadata.row_bytes
        return max(1, self.nbytes // max(len(self), 1))
