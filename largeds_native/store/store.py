"""An opened store: plain `.npy` shards behind one set of names."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from largeds_native.errors import RowIndexError, StoreError
from largeds_native.machine import usable_threads
from largeds_native.store.joined import JoinedArray
from largeds_native.store.manifest import Manifest, read_manifest
from largeds_native.store.npy import DATA_OFFSET, Array, check_array, map_array
from largeds_native.store.report import Report
from largeds_native.store.verify import Verification, verify_rows

if TYPE_CHECKING:
    import pyarrow as pa
    import torch
    from numpy.typing import ArrayLike

    from largeds_native import _C

SAMPLES = "samples.parquet"


@dataclass(frozen=True)
class Shard:
    """One folder of a store: images [start, start + rows) of it."""

    path: Path
    rows: int
    start: int
    hash: str = ""


class Store:
    """Images of one shape with their fields, mapped from disk. `largeds_native.open(path)` makes one.

    `len(store)` images of shape `.shape` ((C, H, W) or (H, W, C), see `.layout`) and `.dtype`; `.images` is an
    array-like of shape (N, *shape), with (N, variants, *shape) when each image was packed in several variants;
    `store["label"]` is a field's array of N values; `store[i]` is (image i, its label or None). Opening checks
    the manifest and each file's header and size, maps nothing, and does not read rows. Safe to use from threads,
    in forked workers, and to pickle (by path).

    Raises StoreError when a file is missing, short, foreign, or of another version.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(os.path.abspath(path))
        self._manifest: Manifest = read_manifest(self.path)
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

    # ---- what it is ------------------------------------------------------------------------------------------
    @property
    def shape(self) -> tuple[int, int, int]:
        """One image's shape as stored."""
        return self._manifest.shape

    @property
    def layout(self) -> str:
        return self._manifest.layout

    @property
    def dtype(self) -> np.dtype[Any]:
        return self._manifest.dtype

    @property
    def channels(self) -> int:
        return self.shape[0 if self.layout == "CHW" else 2]

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width of an image, in pixels."""
        return self.shape[1:] if self.layout == "CHW" else self.shape[:2]

    @property
    def classes(self) -> list[str]:
        """Names of the classes, in the order of the label's numbers; empty when there are none."""
        return list(self._manifest.classes)

    @property
    def fields(self) -> tuple[str, ...]:
        return tuple(self._manifest.fields)

    @property
    def mean(self) -> tuple[float, ...] | None:
        """The mean that is baked into float images, in [0, 1] units; None when none is."""
        return self._manifest.normalized and self._manifest.normalized[0]

    @property
    def std(self) -> tuple[float, ...] | None:
        return self._manifest.normalized and self._manifest.normalized[1]

    @property
    def statistics(self) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
        """Exact (mean, std) of each channel over all packed images, before normalising, in [0, 1] units."""
        return self._manifest.statistics

    @property
    def variants(self) -> int:
        return self._manifest.variants

    @property
    def manifest(self) -> dict[str, Any]:
        return self._manifest.to_json()

    @cached_property
    def identity(self) -> str:
        """A short hash: two stores share it only when contents and options are the same."""
        return self._manifest.identity

    @property
    def nbytes(self) -> int:
        """Bytes of the images alone."""
        return len(self) * self.variants * self._manifest.row_bytes

    def __len__(self) -> int:
        return self._manifest.rows

    def __repr__(self) -> str:
        parts = [f"{len(self):,} images", f"{self.layout} {self.shape}", self.dtype.name]
        if self.variants > 1:
            parts.append(f"{self.variants} variants")
        if self.classes:
            parts.append(f"{len(self.classes)} classes")
        if self.fields:
            parts.append("fields " + ", ".join(self.fields))
        parts.append(f"{len(self.shards)} shard{'s' * (len(self.shards) != 1)}, {self.nbytes / 1e9:.3g} GB")
        return f"<Store {str(self.path)!r}: {'; '.join(parts)}>"

    # ---- its arrays ------------------------------------------------------------------------------------------
    @property
    def row_bytes(self) -> int:
        """Bytes of one image (of one variant)."""
        return self._manifest.row_bytes

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

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, str):
            return self.field(key)
        if isinstance(key, (int, np.integer)):
            if not -len(self) <= key < len(self):
                raise RowIndexError(f"row {key} is outside of the {len(self)} rows of {self.path}")
            return self.images[key], (self.field("label")[key] if "label" in self.fields else None)
        raise TypeError(f"expected a row number or a field's name, found {type(key).__name__}")

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

    def samples_of(self, shards: Sequence[int]) -> pa.Table:
        """The same for some shards; `row` counts in the whole store."""
        import pyarrow as pa
        import pyarrow.compute as pc
        import pyarrow.parquet as pq

        tables = []
        for shard in (self.shards[i] for i in shards):
            path = shard.path / SAMPLES
            try:
                table = pq.read_table(path, partitioning=None)
                row = pc.cast(table["row"], pa.int64())
                row = pc.if_else(pc.less(row, 0), row, pc.add(row, shard.start))
            except (pa.ArrowException, OSError, KeyError) as error:
                raise StoreError(f"{path} can't be read: {str(error)[:200]}") from error
            tables.append(table.set_column(table.column_names.index("row"), "row", row))
        if not tables:
            raise StoreError(f"{self.path} has no shards")
        return pa.concat_tables(tables)

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
        from largeds_native.pack.again import different_sources

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
