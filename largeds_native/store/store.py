"""An opened store: plain `.npy` shards behind one set of names."""

from __future__ import annotations

import itertools
import operator
import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from largeds_native._internal.machine import usable_threads
from largeds_native.errors import RowIndexError, StoreError
from largeds_native.store.facts import StoreFacts
from largeds_native.store.joined import JoinedArray, row_numbers
from largeds_native.store.manifest import read_manifest
from largeds_native.store.npy import DATA_OFFSET, Array, check_array, map_array
from largeds_native.store.report import Report
from largeds_native.store.samples import Shard, read_samples
from largeds_native.store.verify import Verification, verify_rows

if TYPE_CHECKING:
    import pyarrow as pa
    import torch
    from numpy.typing import ArrayLike

    from largeds_native import _C


class Store(StoreFacts):
    """Images of one shape with their fields, mapped from disk. `largeds_native.open(path)` makes one.

    `len(store)` images of shape `.shape` ((C, H, W) or (H, W, C), see `.layout`) and `.dtype`; `.images` is an
    array-like of shape (N, *shape), with (N, variants, *shape) when each image was packed in several variants;
    `store["label"]` is a field's array of N values. `store[i]` is (image i, its label or None), views of the mapping;
    a slice, row numbers or booleans give (images, labels). `np.asarray(store)` is its images, and a loop over the
    store gives (image, label). Opening checks the manifest and each file's header and size, maps nothing, and does
    not read rows. Safe to use from threads, in forked workers, and to pickle (by path).

    Raises StoreError when a file is missing, short, foreign, or of another version.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(os.path.abspath(path))
        self._manifest = read_manifest(self.path)
        starts = np.cumsum([0, *(entry.rows for entry in self._manifest.shards)]).tolist()
        self.shards: list[Shard] = [
            Shard(self.path / entry.name, entry.rows, start, entry.hash)
            for entry, start in zip(self._manifest.shards, starts, strict=False)
        ]
        top = str(self.path)
        for entry in self._manifest.shards:  # plain strings: there may be many thousands
            check_array(f"{top}/{entry.name}/images.npy", self.dtype, self._manifest.images_shape(entry.rows))
            for name, spec in self._manifest.fields.items():
                check_array(f"{top}/{entry.name}/{name}.npy", spec.dtype, (entry.rows, *spec.shape))
        self._maps: dict[tuple[str, int], Array] = {}
        self._joined: dict[str, Array | JoinedArray] = {}

    # ---- what people expect of a sequence ---------------------------------------------------------------------
    def __len__(self) -> int:
        return self._manifest.rows

    def __repr__(self) -> str:
        return f"<Store {str(self.path)!r}: {'; '.join(self.summary())}>"

    def _repr_html_(self) -> str:
        """For a notebook: the facts, and a few images spread over the store."""
        from largeds_native.store.display import as_html

        return as_html(self)

    def __contains__(self, name: object) -> bool:
        """Whether there is such a field, as `store[name]` takes it. Images are not searched."""
        return name in self.fields

    def __iter__(self) -> Iterator[tuple[Array, Any]]:
        """(image, label or None) of each row in turn, read-only."""
        labels = self.field("label") if "label" in self.fields else itertools.repeat(None, len(self))
        return zip(self.images, labels, strict=True)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        """The images, (N, *shape). One shard is copied when asked for; several always, so not with copy=False."""
        if isinstance(self.images, JoinedArray):
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
        """What a key chooses, checked: a row number, a slice, or an array of row numbers."""
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

    # ---- its arrays ------------------------------------------------------------------------------------------
    def part(self, name: str, shard: int) -> Array:
        """One shard's "images" or field, mapped read-only."""
        return self._map(name, shard)

    def _map(self, name: str, part: int) -> Array:
        if (name, part) not in self._maps:
            shard = self.shards[part]
            if name == "images":
                dtype, shape = self.dtype, self._manifest.images_shape(shard.rows)
            else:
                spec = self._manifest.fields[name]
                dtype, shape = spec.dtype, (shard.rows, *spec.shape)
            check_array(shard.path / f"{name}.npy", dtype, shape)  # it may have been cut since the store was opened
            self._maps[name, part] = map_array(shard.path / f"{name}.npy", dtype, shape)
        return self._maps[name, part]

    def _array(self, name: str, row_shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array | JoinedArray:
        if name not in self._joined:
            if len(self.shards) == 1:
                self._joined[name] = self._map(name, 0)
            else:
                rows = [shard.rows for shard in self.shards]
                self._joined[name] = JoinedArray(rows, row_shape, dtype, partial(self._map, name))
        return self._joined[name]

    @property
    def images(self) -> Array | JoinedArray:
        """(N, *shape), read-only: a `np.memmap`, or an array-like that joins the shards' memmaps."""
        return self._array("images", self._manifest.images_shape(0)[1:], self.dtype)

    def field(self, name: str) -> Array | JoinedArray:
        """A field's N values, read-only."""
        if name not in self._manifest.fields:
            found = ", ".join(self.fields) or "none"
            raise StoreError(f"{self.path} has no field {name!r}; its fields are: {found}")
        spec = self._manifest.fields[name]
        return self._array(name, spec.shape, spec.dtype)

    @cached_property
    def rows(self) -> _C.Rows:
        """The images as rows of bytes for the C++ core: image i's variant v is row i * variants + v."""
        from largeds_native import _C

        files = zip(self.shards, self.image_files(), strict=True)
        shards = [(str(path), offset, s.rows * self.variants) for s, (path, offset) in files if s.rows]
        return _C.Rows(shards, self._manifest.row_bytes)

    def image_files(self) -> list[tuple[Path, int]]:
        """Of each shard: the file that holds its images, and the byte where they begin."""
        return [(shard.path / "images.npy", DATA_OFFSET) for shard in self.shards]

    def field_rows(self, name: str) -> _C.Rows:
        """A field as rows of bytes for the C++ core."""
        from largeds_native import _C

        self.field(name)  # says which fields there are
        spec = self._manifest.fields[name]
        shards = [(str(s.path / f"{name}.npy"), DATA_OFFSET, s.rows) for s in self.shards if s.rows]
        return _C.Rows(shards, spec.dtype.itemsize * int(np.prod(spec.shape, dtype=np.int64)))

    @cached_property
    def samples(self) -> pa.Table:
        """Every sample, packed or failed, in source order.

        Columns: source, row (-1: failed), width, height, status ("ok" or the reason), error, decoder, hash.
        """
        return self.samples_of(range(len(self.shards)))

    def samples_of(self, shards: Sequence[int], columns: Sequence[str] | None = None) -> pa.Table:
        """The same for some shards, whole or these columns with `row`; `row` counts in the whole store."""
        return read_samples(self.path, [self.shards[i] for i in shards], columns)

    @property
    def report(self) -> Report | None:
        """How the pack went; None when the store has no report.json."""
        return Report.read(self.path)

    def verify(self, *, sources: Any = False, sample: int = 1000, threads: int | None = None) -> Verification:
        """Checks every row against the hash that it was packed with, and every field; see `Verification`.

        sources: True decodes `sample` of the sources again, spread evenly, and compares; or the source to decode,
        as `pack` took it, where the store's report does not say in which folder it was.
        """
        threads = threads or usable_threads()
        result = verify_rows(self, threads)
        if sources is False or sources is None:
            return result
        from largeds_native.packing.again import different_sources

        checked, different = different_sources(self, None if sources is True else sources, sample, threads)
        return replace(result, sources_checked=checked, different=tuple(different))

    def to_hdf5(self, path: str | os.PathLike[str], **options: Any) -> Path:
        """Writes one HDF5 file with the datasets `data` and `labels`; see `largeds_native.interchange.export_hdf5`."""
        from largeds_native.interchange import export_hdf5

        return export_hdf5(self, path, **options)

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
        variant: int = 0,
        threads: int | None = None,
    ) -> torch.Tensor:
        """The images with these numbers as one tensor (n, C, H, W), whatever the store's layout.

        indices: n integers in [0, len(store)), in any order, repeated or not.
        out: filled and returned where given: on the CPU, of that shape, dtype and layout; pinned or not.
        dtype: torch.uint8, float32, float16 or bfloat16; default the store's, or float32 with mean/std. Floats from
            uint8 are x / 255, or (x / 255 - mean) / std, as ToTensor and Normalize give. Floats pass through.
        channels_last: in torch.channels_last memory format. crop: a centre crop, a side or (height, width).
        variant: which of `store.variants`. threads: default what the process may use, one in a DataLoader's worker.

        Raises RowIndexError for an index outside, ArgumentError for an `out` or an option that does not fit: both
        before anything is written.
        """
        from largeds_native.store.gather import gather

        look = {"dtype": dtype, "mean": mean, "std": std, "channels_last": channels_last, "crop": crop}
        return gather(self, indices, out, variant, threads, look)

    # ---- life ------------------------------------------------------------------------------------------------
    def __reduce__(self) -> tuple[Any, ...]:
        return (open_store, (str(self.path),))

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Lets the mappings go (each when the last array that uses it goes). The store can be used again."""
        self._maps.clear()
        self._joined.clear()
        self.__dict__.pop("rows", None)
        self.__dict__.pop("_formats", None)


def open_store(path: str | os.PathLike[str], **fields: Any) -> Store:
    """Opens the store in the folder `path`; see `Store`. Time and memory do not grow with the rows.

    A .npy file of images, with fields in .npy files of their own (`open("images.npy", label="labels.npy")`), and an
    HDF5 file whose images are contiguous (`open("x.h5", images="data", labels="labels")`), are mapped where they lie.
    """
    if os.path.isfile(path):
        from largeds_native import interchange

        opener: Any = interchange.open_npy if os.fspath(path).endswith(".npy") else interchange.open_hdf5
        return opener(path, **fields)  # type: ignore[no-any-return]
    if fields:
        raise TypeError(f"{path} is no file: only a .npy or HDF5 file is opened with {', '.join(fields)}")
    return Store(path)
